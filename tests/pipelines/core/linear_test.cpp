// SPDX-License-Identifier: Apache-2.0
// Linears whose weights have 8 bits: what they stand for, and the GPU's product of e4m3 with e4m3.
#include "pipelines/core/linear/linear.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/parity.h"

namespace sagelab {
namespace {

using sagelab::testing::relative_l2;

Linear eight_bits(int64_t out, int64_t in, at::Device device) {
  at::manual_seed(5);
  const at::Tensor wide = at::randn({out, in}) * at::rand({out, 1}).mul_(3).exp_();
  Linear linear;
  linear.scale = (wide.abs().amax(1) / 448).to(device);
  linear.weight = (wide / (wide.abs().amax(1, true) / 448)).to(at::kFloat8_e4m3fn).to(device);
  linear.bias = at::randn({out}).to(device);
  return linear;
}

TEST(Linear, EightBitsAreWidenedOnACpu) {
  const Linear linear = eight_bits(24, 40, at::kCPU);
  const at::Tensor x = at::randn({2, 7, 40});
  const at::Tensor wide = linear.weight.to(at::kFloat) * linear.scale.unsqueeze(1);
  EXPECT_TRUE(at::equal(linear.matrix(at::kFloat), wide));
  EXPECT_TRUE(at::equal(linear(x), at::linear(x, wide, linear.bias)));
  at::Tensor into = at::full({2, 9, 30}, NAN);
  linear_into(linear, x, into.narrow(1, 1, 7).narrow(2, 3, 24));
  EXPECT_LT(relative_l2(into.narrow(1, 1, 7).narrow(2, 3, 24), at::linear(x, wide, linear.bias)), 1e-6);
  EXPECT_EQ(into.isnan().sum().item<int64_t>(), 2 * 9 * 30 - 2 * 7 * 24);
  linear_gelu_into(linear, x, into.narrow(1, 1, 7).narrow(2, 3, 24));
  EXPECT_LT(
      relative_l2(into.narrow(1, 1, 7).narrow(2, 3, 24), at::gelu(at::linear(x, wide, linear.bias), "tanh")),
      1e-6);
}

TEST(Linear, WithoutBias) {
  Linear linear = eight_bits(24, 40, at::kCPU);
  linear.bias.reset();
  const at::Tensor x = at::randn({1, 3, 40}), expected = at::linear(x, linear.matrix(at::kFloat));
  at::Tensor out = at::empty({1, 3, 24});
  linear_into(linear, x, out);
  EXPECT_LT(relative_l2(out, expected), 1e-6);
  linear_gelu_into(linear, x, out);
  EXPECT_LT(relative_l2(out, at::gelu(expected, "tanh")), 1e-6);
}

TEST(QuantizeRows, TheLargestIs448AndZerosHaveAScale) {
  at::Tensor x = at::randn({5, 48}) * at::tensor({1.F, 100.F, 1e-3F, 1.F, 1e30F}).unsqueeze(1);
  x[3].zero_();
  const QuantizedRows q = quantize_rows(x.to(at::kBFloat16));
  const at::Tensor largest = q.values.to(at::kFloat).abs().amax(1);
  EXPECT_TRUE(at::equal(largest, at::tensor({448.F, 448.F, 448.F, 0.F, 448.F})));
  EXPECT_EQ(q.scale[3].item<float>(), 1.F);
  EXPECT_LT(relative_l2((q.values.to(at::kFloat) * q.scale).narrow(0, 0, 3), x.narrow(0, 0, 3)), 0.04);
}

class OnTheGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
  }
};

TEST_F(OnTheGpu, QuantizesAsOnACpu) {
  at::manual_seed(6);
  for (const int64_t dim : {8, 48, 3072, 15360}) {
    at::Tensor x = (at::randn({33, dim + 8}) * at::randn({33, 1}).exp_()).to(at::kBFloat16);
    x[4].zero_();
    x[5][0] = 1e30;
    for (const at::Tensor& rows : {x.narrow(1, 0, dim), x.narrow(1, 8, dim)}) {
      const QuantizedRows expected = quantize_rows(rows);
      const at::Tensor there = x.to(at::kCUDA).narrow(1, rows.storage_offset(), dim);
      const QuantizedRows q = quantize_rows(there);
      EXPECT_TRUE(at::equal(q.scale.cpu(), expected.scale)) << dim;
      EXPECT_TRUE(at::equal(q.values.cpu().view(at::kByte), expected.values.view(at::kByte))) << dim;
    }
  }
}

TEST_F(OnTheGpu, ProductsOfEightBitsAreNearTheWideOnes) {
  const Linear linear = eight_bits(192, 320, at::kCUDA);
  Linear half = linear;
  half.bias = linear.bias.to(at::kBFloat16);
  const at::Tensor x = at::randn({2, 37, 320}).to(at::kCUDA, at::kBFloat16);
  const at::Tensor expected = at::linear(x.to(at::kFloat), linear.matrix(at::kFloat), linear.bias);
  EXPECT_LT(relative_l2(half(x).to(at::kFloat), expected), 0.04);
  at::Tensor into = at::full({2, 40, 256}, NAN, x.options());
  const at::Tensor place = into.narrow(1, 2, 37).narrow(2, 32, 192);
  linear_into(half, x, place);
  EXPECT_LT(relative_l2(place.to(at::kFloat), expected), 0.04);
  EXPECT_EQ(into.isnan().sum().item<int64_t>(), 2 * 40 * 256 - 2 * 37 * 192);
  linear_gelu_into(half, x, place);
  EXPECT_LT(relative_l2(place.to(at::kFloat), at::gelu(expected, "tanh")), 0.04);
}

}  // namespace
}  // namespace sagelab
