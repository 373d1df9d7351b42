// SPDX-License-Identifier: Apache-2.0
// A backend around another: forwards both calls, so that fusion survives every wrapper.
#pragma once

#include "attention/joint.h"

namespace sagelab::attention {

class Wrapper : public Backend {
 public:
  explicit Wrapper(BackendPtr inner) : inner_(std::move(inner)) {}
  std::string unsupported(const Problem& problem) const override { return inner_->unsupported(problem); }
  Output run(const Call& call, Recorder& recorder) const override { return inner_->run(call, recorder); }
  void run_joint(const JointCall& call, Recorder& recorder) const override {
    inner_->run_joint(call, recorder);
  }

 protected:
  const BackendPtr& inner() const { return inner_; }

 private:
  BackendPtr inner_;
};

}  // namespace sagelab::attention
