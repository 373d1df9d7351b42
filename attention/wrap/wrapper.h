// SPDX-License-Identifier: Apache-2.0
// A backend around another: forwards every call, so that fusion survives every wrapper.
#pragma once

#include "attention/joint.h"

namespace sagelab::attention {

class Wrapper : public Backend {
 public:
  explicit Wrapper(BackendPtr inner) : inner_(std::move(inner)) {}
  std::string unsupported(const Problem& problem) const override { return inner()->unsupported(problem); }
  Output run(const Call& call, Recorder& recorder) const override { return inner()->run(call, recorder); }
  void run_joint(const JointCall& call, Recorder& recorder) const override {
    inner()->run_joint(call, recorder);
  }
  int64_t run_bytes(const Problem& problem) const override { return inner()->run_bytes(problem); }
  int64_t joint_bytes(const Problem& problem, bool rotated) const override {
    return inner()->joint_bytes(problem, rotated);
  }
  std::function<void()> prepared(const Call& call) const override { return inner()->prepared(call); }

 protected:
  Wrapper() = default;  // for one that says itself what it wraps
  // Held for the length of a call: another may take its place meanwhile.
  virtual BackendPtr inner() const { return inner_; }

 private:
  BackendPtr inner_;
};

}  // namespace sagelab::attention
