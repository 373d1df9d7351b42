// SPDX-License-Identifier: Apache-2.0
// timed(a): the seconds of every call, booked on its Site and on the backend that served it. On CUDA two
// events, read by Recorder::collect; nothing waits here. Around check() it times the check too: write
// check(timed(a),b).
#pragma once

#include "attention/wrap/wrapper.h"

namespace sagelab::attention {

class Arguments;

class Timed final : public Wrapper {
 public:
  using Wrapper::Wrapper;
  std::string name() const override { return "timed(" + inner()->name() + ")"; }
  Output run(const Call& call, Recorder& recorder) const override;
  void run_joint(const JointCall& call, Recorder& recorder) const override;
};

BackendPtr make_timed(Arguments& arguments);

}  // namespace sagelab::attention
