// SPDX-License-Identifier: Apache-2.0
// prefer(a, b, ...): the first that can run the problem serves it. Each call that its first choice could not
// serve is recorded as a fallback, with the reason.
#pragma once

#include <vector>

#include "attention/wrap/wrapper.h"

namespace sagelab::attention {

class Arguments;

class Prefer final : public Wrapper {
 public:
  explicit Prefer(std::vector<BackendPtr> choices);  // at least one
  std::string name() const override;
  // Empty if any choice can; else every choice's reason.
  std::string unsupported(const Problem& problem) const override;
  Output run(const Call& call, Recorder& recorder) const override;
  void run_joint(const JointCall& call, Recorder& recorder) const override;
  int64_t run_bytes(const Problem& problem) const override;
  int64_t joint_bytes(const Problem& problem, bool rotated) const override;
  std::function<void()> prepared(const Call& call) const override;

 private:
  // The first that can run the problem; the first of all where none can.
  const Backend& serving(const Problem& problem) const;
  const Backend& choose(const Problem& problem, const Site& site, Recorder& recorder) const;
  std::vector<BackendPtr> choices_;
};

BackendPtr make_prefer(Arguments& arguments);

}  // namespace sagelab::attention
