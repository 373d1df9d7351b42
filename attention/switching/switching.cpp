// SPDX-License-Identifier: Apache-2.0
#include "attention/switching/switching.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <tuple>

#include "attention/error.h"
#include "attention/registry.h"

namespace sagelab::attention {

namespace {

std::optional<int> number_in(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size() && value >= 0;
  return whole ? std::optional(value) : std::nullopt;
}

std::string place_text(int step, int call) {
  return call == 0 ? std::to_string(step) : fmt::format("{}.{}", step, call);
}

std::string text_of(const PlannedSwitch& p) {
  return fmt::format("{}={}", place_text(p.step, p.call), p.backend->name());
}

PlannedSwitch planned_switch(const std::string& text, bool per_call) {
  const size_t equals = text.find('=');
  const std::string place = text.substr(0, equals);
  const size_t dot = place.find('.');
  const auto step = number_in(std::string_view(place).substr(0, dot));
  const auto call = dot == std::string::npos ? 0 : number_in(std::string_view(place).substr(dot + 1));
  if (equals == std::string::npos || !step || !call)
    throw Error(fmt::format("'{}' is no switch of attention", text),
                "write a step, counted from 0, and a backend: 10=sage2");
  if (*call > 0 && !per_call)
    throw Error(
        fmt::format("'{}' switches at a call within step {}, and switching waits for the next forward", text,
                    *step),
        "allow it with --attention-switch call, or name a step alone");
  return {*step, *call, make_backend(std::string_view(text).substr(equals + 1))};
}

bool before(const PlannedSwitch& a, const PlannedSwitch& b) {
  return std::tie(a.step, a.call) < std::tie(b.step, b.call);
}

}  // namespace

std::vector<PlannedSwitch> planned_switches(std::span<const std::string> texts, bool per_call) {
  std::vector<PlannedSwitch> planned;
  for (const std::string& text : texts) planned.push_back(planned_switch(text, per_call));
  std::stable_sort(planned.begin(), planned.end(), before);
  for (size_t i = 1; i < planned.size(); ++i) {
    const PlannedSwitch &a = planned[i - 1], &b = planned[i];
    if (!before(a, b))
      throw Error(fmt::format("attention switches twice at {}: to {} and to {}", place_text(b.step, b.call),
                              a.backend->name(), b.backend->name()),
                  "leave one of them out");
  }
  return planned;
}

void require_within(std::span<const PlannedSwitch> planned, int steps, int calls_of_a_step) {
  for (const PlannedSwitch& p : planned) {
    const std::string text = text_of(p);
    if (p.step >= steps)
      throw Error(fmt::format("attention cannot switch at {}: the run has steps 0 to {}", text, steps - 1));
    if (p.call >= calls_of_a_step && p.call > 0)
      throw Error(
          fmt::format("attention cannot switch at {}: a step has calls 0 to {}", text, calls_of_a_step - 1));
  }
}

std::string Switch::at() const {
  return fmt::format("{}={}", place_text(site.step, call), to);
}

Switching::Switching(std::shared_ptr<Selector> selector, std::vector<PlannedSwitch> planned, bool per_call)
    : selector_(std::move(selector)),
      planned_(std::move(planned)),
      per_call_(per_call),
      serving_(selector_->initial()),
      served_(serving_) {}

// Setting what was planned as anyone would set it: whoever sets last, wins.
void Switching::apply_planned() const {
  const PlannedSwitch here{step_, call_, nullptr};
  for (; applied_ < planned_.size() && !before(here, planned_[applied_]); ++applied_)
    selector_->set(planned_[applied_].backend);
}

void Switching::begin(int step) {
  const bool goes_on = !begun_ && step > 0;
  begun_ = true;
  step_ = step;
  call_ = 0;
  if (goes_on) {
    const bool untouched = selector_->current() == selector_->initial();
    for (; applied_ < planned_.size() && planned_[applied_].step < step; ++applied_) {
      const PlannedSwitch& p = planned_[applied_];
      Site site;
      site.step = p.step;
      switches_.push_back({site, p.call, served_->name(), p.backend->name()});
      served_ = p.backend;
      if (untouched) selector_->set(p.backend);
    }
  }
  apply_planned();
  serving_ = selector_->current();
}

std::string Switching::name() const {
  return per_call_ ? selector_->name() : serving_->name();
}

void Switching::next_call(const Site& site) const {
  if (per_call_) {
    apply_planned();
    serving_ = selector_->current();
  }
  if (serving_ != served_) {
    const std::string from = served_->name(), to = serving_->name();
    if (from != to) switches_.push_back({site, call_, from, to});
    served_ = serving_;
  }
  call_ += 1;
}

Output Switching::run(const Call& call, Recorder& recorder) const {
  next_call(call.site);
  return Wrapper::run(call, recorder);
}

void Switching::run_joint(const JointCall& call, Recorder& recorder) const {
  next_call(call.site);
  Wrapper::run_joint(call, recorder);
}

}  // namespace sagelab::attention
