// SPDX-License-Identifier: Apache-2.0
// Which backend serves attention: of the run that goes on, from its next forward; else of the next one. And
// what that does to the clock, step by step.
#pragma once

#include <string>

#include "ui/actions.h"
#include "ui/panels/attention/policy_editor.h"

namespace sagelab::ui {

class AttentionPanel {
 public:
  void draw(const State& state, Actions& actions);

 private:
  void draw_backends(const State& state, Actions& actions);
  void draw_own_spec(const State& state, Actions& actions);
  void draw_target(const State& state, Actions& actions);
  std::string target(const State& state) const;  // what is set now of what a click sets
  std::string own_;                              // a spec being typed
  bool measure_ = false;
  bool next_ = false;  // a click is for the next run, though one goes on
  PolicyEditor policy_;
};

// What attention is set to: of the job that runs, or of the request under edit ("" there is the default).
std::string attention_of(const State& state);
std::string next_attention_of(const State& state);  // of the request under edit
// "check(sage2,sdpa)" for "sage2"; what is a check already stays.
std::string measured_spec(const std::string& spec);
// "sage2" for "check(sage2,sdpa)".
std::string plain_spec(const std::string& spec);
// Seconds of each step of a job, coloured by backend, with a line where it was switched.
void draw_step_times(const Job& job, float height);

}  // namespace sagelab::ui
