// SPDX-License-Identifier: Apache-2.0
// What the tests of sage2 on a GPU share: the specs to try, calls on the device, the truth and the twin to
// hold results against, and memory that is garbage until it is written.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "attention/registry.h"
#include "attention/sage2/sage2.h"
#include "tests/attention/sage2/inputs.h"

namespace sagelab::attention::sage2::test {

// Of backends(), those of sage2; and what else their options make.
std::vector<std::string> entries();
std::vector<std::string> variants();  // entries() among them
std::string name_of_spec(const testing::TestParamInfo<std::string>& info);

inline at::Device cuda() {
  return at::Device(at::kCUDA, 0);
}

// Skips, with the reason, where there is no GPU.
class OnGpu : public testing::Test {
 protected:
  void SetUp() override;
};

// Skips also where this GPU cannot run the spec.
class OfSpec : public OnGpu, public testing::WithParamInterface<std::string> {
 protected:
  void SetUp() override;
  const std::string& spec() const { return GetParam(); }
  const Settings& settings() const { return settings_; }  // the spec's on this GPU
  Output run(const Call& call) const;
  // Largest relative error for N(0, 1): of the kind of the spec, not of the shape.
  double bound() const { return settings_.qk == Qk::Int4 ? .31 : .06; }
  // The same call in the twin, rounded to the call's type as the kernels round.
  Output twin(const Call& call) const;
  // The error of the result against the truth is within `bound` and at most 1.1 times the twin's on the same
  // tensors.
  void expect_as_good_as_the_twin(const Call& call, double bound) const;

 private:
  BackendPtr backend_;
  Settings settings_;
};

// q, k, v rounded to dtype, on the device.
Call on_cuda(const Call& call, at::ScalarType dtype = at::kBFloat16);
// fp32 on the CPU.
Call widened(const Call& call);
// Attention in fp64, computed on the call's device: out fp64, lse fp32.
Output truth_of(const Call& call);
Output run(const std::string& spec, const Call& call);
bool all_finite(const at::Tensor& x);
bool same_bits(const at::Tensor& a, const at::Tensor& b);  // NaN is equal to itself; both undefined: true

// Gives back what the allocator holds, then leaves it memory, of large blocks and of small, that is `byte`
// everywhere: 0xff is NaN in fp32, bf16, fp16 and e4m3.
void fill_free_memory(int byte);

}  // namespace sagelab::attention::sage2::test
