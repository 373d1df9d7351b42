// SPDX-License-Identifier: Apache-2.0
// The switch: another backend may be set from any thread while calls run. A loop that must not mix two
// backends in one guided prediction pins current() for its length.
#pragma once

#include <atomic>

#include "attention/wrap/wrapper.h"

namespace sagelab::attention {

class Selector final : public Wrapper {
 public:
  explicit Selector(BackendPtr initial) : initial_(std::move(initial)), current_(initial_) {}
  void set(BackendPtr backend) { current_.store(std::move(backend)); }
  BackendPtr current() const { return current_.load(); }
  BackendPtr initial() const { return initial_; }  // before anyone set another
  std::string name() const override { return current()->name(); }

 protected:
  BackendPtr inner() const override { return current(); }

 private:
  BackendPtr initial_;
  std::atomic<BackendPtr> current_;
};

}  // namespace sagelab::attention
