// SPDX-License-Identifier: Apache-2.0
#include "attention/wrap/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "attention/recorder.h"
#include "attention/registry.h"
#include "attention/spec.h"

namespace sagelab::attention {

namespace {

std::string text_of(int bound) {
  return bound == Schedule::kLast ? "last" : std::to_string(bound);
}

std::string text_of(const std::vector<Schedule::Range>& ranges) {
  std::string text;
  for (const Schedule::Range& r : ranges) {
    if (!text.empty()) text += "+";
    text += r.first == r.last ? text_of(r.first) : text_of(r.first) + "-" + text_of(r.last);
  }
  return text;
}

std::optional<int> bound_from(std::string_view word) {
  if (word == "last") return Schedule::kLast;
  int value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  const bool whole = error == std::errc() && end == word.data() + word.size();
  return whole && value >= 0 && value < Schedule::kLast ? std::optional(value) : std::nullopt;
}

// "0+3-5+last"; nothing where it is malformed.
std::vector<Schedule::Range> ranges_from(std::string_view text) {
  std::vector<Schedule::Range> ranges;
  while (true) {
    const size_t plus = text.find('+');
    const std::string_view part = text.substr(0, plus);
    const size_t dash = part.find('-');
    const auto first = bound_from(part.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : bound_from(part.substr(dash + 1));
    if (!first || !last || *last < *first) return {};
    ranges.push_back({*first, *last});
    if (plus == std::string_view::npos) return ranges;
    text.remove_prefix(plus + 1);
  }
}

bool holds(const Schedule::Range& r, int index, int count) {
  const auto resolved = [count](int bound) { return bound == Schedule::kLast ? count - 1 : bound; };
  return resolved(r.first) <= index && index <= resolved(r.last);
}

Schedule::Rule rule_from(const Argument& a, Arguments& arguments) {
  Schedule::Rule rule;
  if (a.key != "steps" && a.key != "layers") {
    arguments.fail(fmt::format("schedule has no rule '{}'", a.text()), a.position,
                   "its rules are steps=A-B:backend, layers=A+B:backend and else:backend");
  }
  rule.axis = a.key == "steps" ? Schedule::Axis::Steps : Schedule::Axis::Layers;
  rule.ranges = ranges_from(a.condition);
  if (rule.ranges.empty()) {
    arguments.fail(fmt::format("'{}' is no range of {}", a.condition, a.key), a.position,
                   "write 3, 0-4, 0+2-5 or last");
  }
  rule.backend = make_backend(a.value, arguments.text());
  return rule;
}

}  // namespace

Schedule::Schedule(std::vector<Rule> rules, BackendPtr otherwise)
    : Wrapper(std::move(otherwise)), rules_(std::move(rules)) {}

std::string Schedule::name() const {
  std::string name = "schedule(";
  for (const Rule& r : rules_) {
    name += fmt::format("{}={}:{},", r.axis == Axis::Steps ? "steps" : "layers", text_of(r.ranges),
                        r.backend->name());
  }
  return name + "else:" + inner()->name() + ")";
}

std::string Schedule::unsupported(const Problem& problem) const {
  const auto reason_of = [&](const BackendPtr& b) {
    const std::string reason = b->unsupported(problem);
    return reason.empty() ? reason : fmt::format("its {} cannot: {}", b->name(), reason);
  };
  for (const Rule& r : rules_) {
    if (std::string reason = reason_of(r.backend); !reason.empty()) return reason;
  }
  return reason_of(inner());
}

const Backend& Schedule::at(const Site& site) const {
  for (const Rule& r : rules_) {
    const bool steps = r.axis == Axis::Steps;
    const int index = steps ? site.step : site.layer, count = steps ? site.steps : site.layers;
    const auto matches = [&](const Range& range) { return holds(range, index, count); };
    if (std::any_of(r.ranges.begin(), r.ranges.end(), matches)) return *r.backend;
  }
  return *inner();
}

Output Schedule::run(const Call& call, Recorder& recorder) const {
  return at(call.site).run(call, recorder);
}

void Schedule::run_joint(const JointCall& call, Recorder& recorder) const {
  at(call.site).run_joint(call, recorder);
}

std::function<void()> Schedule::prepared(const Call& call) const {
  return at(call.site).prepared(call);
}

BackendPtr make_schedule(Arguments& arguments) {
  std::vector<Schedule::Rule> rules;
  BackendPtr otherwise;
  while (const Argument* a = arguments.rule()) {
    if (otherwise) arguments.fail("nothing can follow the rule else", a->position);
    if (a->key.empty() && a->condition == "else") {
      otherwise = make_backend(a->value, arguments.text());
    } else {
      rules.push_back(rule_from(*a, arguments));
    }
  }
  arguments.require_all_taken("rules: steps=A-B:backend, layers=A+B:backend, else:backend");
  if (!otherwise) arguments.fail("schedule needs a last rule else:backend", arguments.spec().position);
  return std::make_shared<Schedule>(std::move(rules), std::move(otherwise));
}

}  // namespace sagelab::attention
