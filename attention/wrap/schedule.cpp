// SPDX-License-Identifier: Apache-2.0
#include "attention/wrap/schedule.h"

#include <fmt/format.h>

#include <algorithm>

#include "attention/recorder.h"
#include "attention/registry.h"
#include "attention/spec.h"

namespace sagelab::attention {

namespace {

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
    if (holds(r.ranges, index, count)) return *r.backend;
  }
  return *inner();
}

Output Schedule::run(const Call& call, Recorder& recorder) const {
  return at(call.site).run(call, recorder);
}

void Schedule::run_joint(const JointCall& call, Recorder& recorder) const {
  at(call.site).run_joint(call, recorder);
}

int64_t Schedule::run_bytes(const Problem& problem) const {
  int64_t most = inner()->run_bytes(problem);
  for (const Rule& r : rules_) most = std::max(most, r.backend->run_bytes(problem));
  return most;
}

int64_t Schedule::joint_bytes(const Problem& problem, bool rotated) const {
  int64_t most = inner()->joint_bytes(problem, rotated);
  for (const Rule& r : rules_) most = std::max(most, r.backend->joint_bytes(problem, rotated));
  return most;
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
