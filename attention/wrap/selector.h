// SPDX-License-Identifier: Apache-2.0
// The switch: another backend may be set from any thread while calls run. A loop that must not mix two
// backends in one guided prediction pins current() for its length.
#pragma once

#include <atomic>

#include "attention/attention.h"

namespace sagelab::attention {

class Selector final : public Backend {
 public:
  explicit Selector(BackendPtr initial) : current_(std::move(initial)) {}
  void set(BackendPtr backend) { current_.store(std::move(backend)); }
  BackendPtr current() const { return current_.load(); }

  std::string name() const override { return current()->name(); }
  std::string unsupported(const Problem& problem) const override { return current()->unsupported(problem); }
  Output run(const Call& call, Recorder& recorder) const override { return current()->run(call, recorder); }
  void run_joint(const JointCall& call, Recorder& recorder) const override {
    current()->run_joint(call, recorder);
  }

 private:
  std::atomic<BackendPtr> current_;
};

}  // namespace sagelab::attention
