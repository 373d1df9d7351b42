// SPDX-License-Identifier: Apache-2.0
// SageAttention2: the product of queries and keys in INT8 or INT4, that of probabilities and values in FP8 or
// FP16. On CUDA by kernels, on the CPU by their twin (emulated: quality, not speed).
#pragma once

#include <array>

#include "attention/attention.h"
#include "attention/sage2/settings.h"

namespace sagelab::attention {

class Arguments;

class Sage2 final : public Backend {
 public:
  // What to do on a machine of each arch; name: the spec.
  using ByNative = std::array<sage2::Settings, 3>;
  Sage2(std::string name, const ByNative& by_native) : name_(std::move(name)), by_native_(by_native) {}
  std::string name() const override { return name_; }
  std::string unsupported(const Problem& problem) const override;
  Output run(const Call& call, Recorder& recorder) const override;
  void run_joint(const JointCall& call, Recorder& recorder) const override;
  int64_t run_bytes(const Problem& problem) const override;
  int64_t joint_bytes(const Problem& problem, bool rotated) const override;
  std::function<void()> prepared(const Call& call) const override;
  // What runs on this device: where the spec names no arch, the device's own; the CPU takes Hopper's.
  const sage2::Settings& settings(const at::Device& device) const;

 private:
  std::string name_;
  ByNative by_native_;
};

BackendPtr make_sage2(Arguments& arguments);

}  // namespace sagelab::attention
