// SPDX-License-Identifier: Apache-2.0
// A backend that says what it saw, and calls for it.
#pragma once

#include <fmt/format.h>

#include "attention/recorder.h"
#include "tests/attention/exact.h"

namespace sagelab::attention::test {

// Serves joint calls in its own pass, as a fusing backend does, and answers with one value; refuses by
// length.
class Fake final : public Backend {
 public:
  explicit Fake(std::string name, double value = 1, int64_t longest = 1 << 30)
      : name_(std::move(name)), value_(value), longest_(longest) {}
  std::string name() const override { return name_; }
  std::string unsupported(const Problem& p) const override {
    return p.kv_len <= longest_ ? "" : fmt::format("{} keys are above {}", p.kv_len, longest_);
  }
  Output run(const Call& call, Recorder& recorder) const override {
    recorder.served(call.site, name_, false);
    seen.push_back(call);
    return {at::full(call.q.sizes(), value_, call.q.options()), {}};
  }
  void run_joint(const JointCall& call, Recorder& recorder) const override {
    recorder.served(call.site, name_, true);
    for (const Segment& s : call.segments) {
      if (s.out.defined()) s.out.copy_(at::full(s.out.sizes(), value_, s.out.options()));
    }
  }
  std::function<void()> prepared(const Call&) const override { return kernel; }
  int64_t run_bytes(const Problem& p) const override { return bytes * p.q_len; }
  int64_t joint_bytes(const Problem& p, bool rotated) const override {
    return 2 * bytes * p.q_len + (rotated ? 1 : 0);
  }
  mutable std::vector<Call> seen;
  int64_t bytes = 0;  // for each query
  std::function<void()> kernel;

 private:
  std::string name_;
  double value_;
  int64_t longest_;
};

inline std::shared_ptr<Fake> fake(std::string name, double value = 1, int64_t longest = 1 << 30) {
  return std::make_shared<Fake>(std::move(name), value, longest);
}

inline Site site(int step, int layer) {
  return {step, 10, layer, 30, Branch::Cond, 0, "block"};
}

inline Call plain_call(int64_t rows = 40) {
  const auto make = [&](uint64_t seed) { return normal({1, rows, 2, 16}, seed, at::kFloat, at::kCPU); };
  return {make(1), make(2), make(3), 0.25, false, false, {}, false, {}};
}

}  // namespace sagelab::attention::test
