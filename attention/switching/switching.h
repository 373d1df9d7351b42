// SPDX-License-Identifier: Apache-2.0
// Changes of backend while a run goes on: those planned before it and those that somebody sets meanwhile take
// the same way, through the run's Selector, and each is noted with the very call from which on it served.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "attention/wrap/selector.h"

namespace sagelab::attention {

// "10=sage2": from step 10 on. "10.37=sage2": from call 37 of step 10 on. Both count from 0.
struct PlannedSwitch {
  int step = 0, call = 0;
  BackendPtr backend;
};
// In the order of their steps. Throws sagelab::Error for a text that is none of these, a bad spec, two
// switches at one place, and a call where switching waits for the next forward.
std::vector<PlannedSwitch> planned_switches(std::span<const std::string> texts, bool per_call);
// Throws sagelab::Error for a step or a call that the run does not have.
void require_within(std::span<const PlannedSwitch> planned, int steps, int calls_of_a_step);

struct Switch {
  Site site;               // of the first call that it served
  int call = 0;            // that call among all of the step's, from 0
  std::string from, to;    // specs
  std::string at() const;  // what plans it again: "10=sage2"
};

// What serves a run: a Selector, looked at before each step or before each call. One thread's own.
class Switching final : public Wrapper {
 public:
  Switching(std::shared_ptr<Selector> selector, std::vector<PlannedSwitch> planned, bool per_call);
  // The calls of a step follow. Unless per_call, what is set from now on waits for the next step. A run that
  // goes on in the middle begins at its first step: what was planned for earlier ones has been served.
  void begin(int step);
  std::string name() const override;  // of what would serve the next call
  const std::vector<Switch>& switches() const { return switches_; }
  Output run(const Call& call, Recorder& recorder) const override;
  void run_joint(const JointCall& call, Recorder& recorder) const override;

 protected:
  BackendPtr inner() const override { return serving_; }

 private:
  void apply_planned() const;
  void next_call(const Site& site) const;

  std::shared_ptr<Selector> selector_;
  std::vector<PlannedSwitch> planned_;
  bool per_call_, begun_ = false;
  int step_ = 0;
  mutable int call_ = 0;
  mutable size_t applied_ = 0;           // of planned_
  mutable BackendPtr serving_, served_;  // the next call; the latest one
  mutable std::vector<Switch> switches_;
};

}  // namespace sagelab::attention
