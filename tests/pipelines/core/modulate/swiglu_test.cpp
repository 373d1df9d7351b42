// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/modulate/swiglu.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <tuple>

#include "tests/support/parity.h"

namespace sagelab {
namespace {

using sagelab::testing::relative_l2;

class Swiglu : public ::testing::TestWithParam<std::tuple<c10::DeviceType, at::ScalarType, int64_t>> {
 protected:
  void SetUp() override {
    if (std::get<0>(GetParam()) == at::kCUDA && !at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
    at::manual_seed(5);
  }
  at::Tensor drawn(int64_t batch, int64_t rows, double scale = 1) const {
    const auto& [device, dtype, dim] = GetParam();
    return (at::randn({batch, rows, 2 * dim}) * scale).to(device, dtype);
  }
  // Rounding twice in the dtype.
  double bound() const {
    const at::ScalarType dtype = std::get<1>(GetParam());
    return dtype == at::kFloat ? 1e-6 : dtype == at::kHalf ? 1e-3 : 8e-3;
  }
  static at::Tensor expected(const at::Tensor& both) {
    const auto halves = both.to(at::kCPU, at::kDouble).chunk(2, 2);
    return halves[0] * halves[1] / (1 + (-halves[1]).exp());
  }
};

TEST_P(Swiglu, IsTheFormulaInItsFirstHalf) {
  const at::Tensor both = drawn(2, 5), truth = expected(both);
  const at::Tensor out = swiglu_(both);
  EXPECT_LE(relative_l2(out, truth), bound());
  EXPECT_EQ(out.const_data_ptr(), both.const_data_ptr());
  EXPECT_EQ(out.scalar_type(), both.scalar_type());
}

TEST_P(Swiglu, TakesRowsOfALargerBuffer) {
  const at::Tensor buffer = drawn(2, 9), before = buffer.clone(), rows = buffer.narrow(1, 3, 4);
  const at::Tensor truth = expected(rows);
  EXPECT_LE(relative_l2(swiglu_(rows), truth), bound());
  EXPECT_TRUE(at::equal(buffer.narrow(1, 0, 3), before.narrow(1, 0, 3)));
  EXPECT_TRUE(at::equal(buffer.narrow(1, 7, 2), before.narrow(1, 7, 2)));
}

// exp(-gate) overflows, or vanishes.
TEST_P(Swiglu, LargeGatesStayFinite) {
  const at::Tensor both = drawn(1, 3, 40), truth = expected(both);
  const at::Tensor out = swiglu_(both);
  EXPECT_TRUE(out.isfinite().all().item<bool>());
  EXPECT_LE(relative_l2(out, truth), bound());
}

TEST_P(Swiglu, NoRowsAreNoWork) {
  EXPECT_NO_THROW(swiglu_(drawn(1, 0)));
}

std::string swiglu_case(const ::testing::TestParamInfo<Swiglu::ParamType>& info) {
  const auto& [device, dtype, dim] = info.param;
  return std::string(device == at::kCUDA ? "cuda_" : "cpu_") + c10::toString(dtype) + "_" +
         std::to_string(dim);
}

// 20 is no multiple of the CUDA kernel's vectors: the other path. 10240 is more than the norms' kernels take.
INSTANTIATE_TEST_SUITE_P(All, Swiglu,
                         ::testing::Combine(::testing::Values(at::kCPU, at::kCUDA),
                                            ::testing::Values(at::kFloat, at::kHalf, at::kBFloat16),
                                            ::testing::Values(20, 64, 4096, 10240)),
                         swiglu_case);

TEST(SwigluShapes, WhatHasNoHalvesThrows) {
  EXPECT_THROW(swiglu_(at::zeros({2, 3, 7})), c10::Error);
  EXPECT_THROW(swiglu_(at::zeros({3, 8})), c10::Error);
}

}  // namespace
}  // namespace sagelab
