// SPDX-License-Identifier: Apache-2.0
// unfused(a): a joint call's q, k and v are made by ATen operations in fp32, one after the other and rounded
// once, then a attends to them: what a costs without a pass of ours before it or inside it. For benches. What
// lies in one tensor already is not concatenated.
#pragma once

#include "attention/wrap/wrapper.h"

namespace sagelab::attention {

class Arguments;

class Unfused final : public Wrapper {
 public:
  using Wrapper::Wrapper;
  std::string name() const override { return "unfused(" + inner()->name() + ")"; }
  void run_joint(const JointCall& call, Recorder& recorder) const override;
  int64_t joint_bytes(const Problem& problem, bool rotated) const override;
};

BackendPtr make_unfused(Arguments& arguments);

}  // namespace sagelab::attention
