// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/modulate/rms.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <tuple>

#include "tests/support/parity.h"

namespace sagelab {
namespace {

using sagelab::testing::relative_l2;

constexpr double kEps = 1e-5;

class Rms : public ::testing::TestWithParam<std::tuple<c10::DeviceType, at::ScalarType, int64_t>> {
 protected:
  void SetUp() override {
    const auto& [device, dtype, dim] = GetParam();
    if (device == at::kCUDA && !at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
    at::manual_seed(3);
    const auto values = [&](at::IntArrayRef shape) { return at::randn(shape); };
    // A mean square near the norm's eps, in rows of a larger buffer; factors as chunks of a linear's result.
    small_ = (values({2, 9, dim}) * 0.003).to(device, dtype).narrow(1, 2, 7);
    other_ = values({2, 7, dim}).to(device, dtype);
    factors_ = values({2, 2 * dim}).to(device, dtype).chunk(2, 1);
  }
  static at::Tensor wide(const at::Tensor& x) { return x.to(at::kCPU, at::kDouble); }
  static at::Tensor normed(const at::Tensor& x) {
    return wide(x) * at::rsqrt(wide(x).square().mean(-1, true) + kEps);
  }
  // Rounding once in the dtype.
  double bound() const {
    const at::ScalarType dtype = std::get<1>(GetParam());
    return dtype == at::kFloat ? 1e-6 : dtype == at::kHalf ? 5e-4 : 4e-3;
  }
  at::Tensor small_, other_;
  std::vector<at::Tensor> factors_;
};

TEST_P(Rms, ModulatedIsTheFormula) {
  const at::Tensor buffer = at::zeros({2, 12, small_.size(2)}, small_.options()),
                   out = buffer.narrow(1, 3, 7);
  const at::Tensor before = small_.clone();
  rms_modulate_into(small_, factors_[1], kEps, out);
  EXPECT_LE(relative_l2(out, normed(small_) * (1 + wide(factors_[1])).unsqueeze(1)), bound());
  EXPECT_TRUE(at::equal(small_, before));
  EXPECT_EQ(buffer.narrow(1, 0, 3).count_nonzero().item<int64_t>(), 0);
  EXPECT_EQ(buffer.narrow(1, 10, 2).count_nonzero().item<int64_t>(), 0);
}

TEST_P(Rms, ModulatedInItsPlaceIsTheSame) {
  const at::Tensor out = at::empty_like(other_), same = other_.clone();
  rms_modulate_into(other_, factors_[0], kEps, out);
  rms_modulate_into(same, factors_[0], kEps, same);
  EXPECT_TRUE(at::equal(same, out));
}

TEST_P(Rms, GatedIsTheFormulaInPlace) {
  const at::Tensor expected = wide(other_) + normed(small_) * wide(factors_[1]).tanh().unsqueeze(1);
  const void* memory = other_.const_data_ptr();
  add_rms_gated_(other_, small_, factors_[1], kEps);
  EXPECT_LE(relative_l2(other_, expected), bound());
  EXPECT_EQ(other_.const_data_ptr(), memory);
}

TEST_P(Rms, NoRowsAreNoWork) {
  const at::Tensor none = other_.narrow(1, 0, 0);
  EXPECT_NO_THROW(rms_modulate_into(none, factors_[0], kEps, at::empty_like(none)));
  EXPECT_NO_THROW(add_rms_gated_(none, none, factors_[0], kEps));
}

std::string rms_case(const ::testing::TestParamInfo<Rms::ParamType>& info) {
  const auto& [device, dtype, dim] = info.param;
  return std::string(device == at::kCUDA ? "cuda_" : "cpu_") + c10::toString(dtype) + "_" +
         std::to_string(dim);
}

// 20 is no multiple of the CUDA kernels' vectors: the other path.
INSTANTIATE_TEST_SUITE_P(All, Rms,
                         ::testing::Combine(::testing::Values(at::kCPU, at::kCUDA),
                                            ::testing::Values(at::kFloat, at::kHalf, at::kBFloat16),
                                            ::testing::Values(20, 64, 1536, 3072)),
                         rms_case);

TEST(RmsShapes, WhatDoesNotFitThrows) {
  const at::Tensor x = at::zeros({2, 3, 8}), factor = at::zeros({2, 8});
  EXPECT_NO_THROW(rms_modulate_into(x, factor, kEps, at::empty_like(x)));
  EXPECT_THROW(rms_modulate_into(x, factor, kEps, at::empty({2, 4, 8})), c10::Error);
  EXPECT_THROW(rms_modulate_into(x, factor, kEps, at::empty({2, 3, 8}, at::kHalf)), c10::Error);
  EXPECT_THROW(rms_modulate_into(x, factor.narrow(0, 0, 1), kEps, at::empty_like(x)), c10::Error);
  EXPECT_THROW(add_rms_gated_(x, x.narrow(1, 0, 2), factor, kEps), c10::Error);
  EXPECT_THROW(add_rms_gated_(x, x, factor.narrow(1, 0, 4), kEps), c10::Error);
}

}  // namespace
}  // namespace sagelab
