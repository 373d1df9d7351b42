// SPDX-License-Identifier: Apache-2.0
// check(a, b, rows=256, seed=0): a serves; b runs on the same call for some query rows, the same rows in
// every head, and how far a is from b goes to the recorder. rows=all takes every row. Of a causal call b runs
// every row, and the figures are of the chosen ones. a's output is not touched, and on CUDA nothing waits:
// Recorder::collect reads the figures.
#pragma once

#include <cstdint>

#include "attention/wrap/wrapper.h"

namespace sagelab::attention {

class Arguments;
struct Errors;

class Check final : public Wrapper {
 public:
  static constexpr int64_t kAllRows = -1;
  Check(BackendPtr a, BackendPtr b, int64_t rows, uint64_t seed);
  std::string name() const override;
  // a's reason, or else b's.
  std::string unsupported(const Problem& problem) const override;
  Output run(const Call& call, Recorder& recorder) const override;
  void run_joint(const JointCall& call, Recorder& recorder) const override;
  int64_t run_bytes(const Problem& problem) const override;
  int64_t joint_bytes(const Problem& problem, bool rotated) const override;

 private:
  void compare(const at::Tensor& served, const Call& call, Recorder& recorder) const;
  // What b runs of a problem.
  Problem compared(const Problem& problem) const;
  // The rows to compare, int64 on q's device; undefined where every row is.
  at::Tensor rows_of(const Problem& problem, const Site& site) const;
  BackendPtr b_;
  int64_t rows_;
  uint64_t seed_;
};

// Of a against b, any equal shapes; NaN where either holds one. Tensors of fp64 figures, not yet read.
at::Tensor error_figures(const at::Tensor& a, const at::Tensor& b);
Errors errors_from(const at::Tensor& figures);

BackendPtr make_check(Arguments& arguments);

}  // namespace sagelab::attention
