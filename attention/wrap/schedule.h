// SPDX-License-Identifier: Apache-2.0
// schedule(steps=0-4:sdpa,layers=0+3-5+last:sdpa,else:sage2): the first rule that matches a call's step or
// layer serves it. Numbers count from 0; last is the run's or the model's last; the rule for everything else
// must be there.
#pragma once

#include <vector>

#include "attention/wrap/ranges.h"
#include "attention/wrap/wrapper.h"

namespace sagelab::attention {

class Arguments;

class Schedule final : public Wrapper {
 public:
  enum class Axis { Steps, Layers };
  struct Rule {
    Axis axis = Axis::Steps;
    Ranges ranges;
    BackendPtr backend;
  };
  Schedule(std::vector<Rule> rules, BackendPtr otherwise);
  std::string name() const override;
  // The reason of the first backend that cannot: every one of them may be asked for.
  std::string unsupported(const Problem& problem) const override;
  Output run(const Call& call, Recorder& recorder) const override;
  void run_joint(const JointCall& call, Recorder& recorder) const override;
  int64_t run_bytes(const Problem& problem) const override;
  int64_t joint_bytes(const Problem& problem, bool rotated) const override;
  std::function<void()> prepared(const Call& call) const override;
  const Backend& at(const Site& site) const;

 private:
  std::vector<Rule> rules_;
};

BackendPtr make_schedule(Arguments& arguments);

}  // namespace sagelab::attention
