// SPDX-License-Identifier: Apache-2.0
#include "attention/study/accumulator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace sagelab::attention::study {
namespace {

TEST(Accumulator, TheCpuHasNone) {
  EXPECT_EQ(accumulators_unsupported(at::kCPU),
            "FP8 accumulators are those of NVIDIA GPUs from compute capability 8.9 on, not of cpu");
}

// Numbers cut off or rounded to a number of bits on purpose.
TEST(Accumulator, KeptBitsAreCounted) {
  at::Tensor exact = at::linspace(1.26, 1.7, 5000, at::kFloat).to(at::kDouble);
  exact = at::cat({exact, -exact}).contiguous();
  for (const int bits : {10, 13, 20}) {
    const double unit = std::ldexp(1., -bits);
    const Kept cut = kept_of((at::trunc(exact / unit) * unit).to(at::kFloat), exact);
    EXPECT_EQ(cut.bits, bits);
    EXPECT_EQ(cut.rest(), "cut off") << cut.lowest << " to " << cut.highest;
    const Kept rounded = kept_of((at::round(exact / unit) * unit).to(at::kFloat), exact);
    EXPECT_EQ(rounded.bits, bits);
    EXPECT_EQ(rounded.rest(), "rounded") << rounded.lowest << " to " << rounded.highest;
    EXPECT_EQ(kept_of((at::floor(exact / unit) * unit).to(at::kFloat), exact).rest(), "other");
  }
  const Kept all = kept_of(exact.to(at::kFloat), exact);
  EXPECT_EQ(all.bits, 23);
  EXPECT_EQ(all.rest(), "nothing lost");
}

TEST(Accumulator, OperandsFillTheirType) {
  const Operands x = draw_operands(64, at::kCPU), again = draw_operands(64, at::kCPU);
  const at::Tensor p = x.p.to(at::kFloat), v = x.v.to(at::kFloat);
  EXPECT_TRUE(at::equal(p, again.p.to(at::kFloat)));
  EXPECT_TRUE(p.amax(1).eq(448).all().item<bool>());
  EXPECT_TRUE(v.abs().amax(1).eq(448).all().item<bool>());
  EXPECT_EQ(p.amin().item<float>() < 0, false);
  EXPECT_LT(relative_error(at::matmul(p, v.t()), x), 1e-6);
  EXPECT_NEAR(relative_error(at::matmul(p, v.t()) * 1.01, x), .01, 1e-6);
}

class OnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "there is no CUDA device";
    if (const std::string reason = accumulators_unsupported(device_); !reason.empty()) GTEST_SKIP() << reason;
  }
  double error(Instruction instruction, const Operands& x, int64_t flush_keys) const {
    return relative_error(multiply(instruction, x, flush_keys), x);
  }
  at::Device device_ = at::Device(at::kCUDA, 0);
};

TEST_F(OnGpu, SixteenBitProductsKeepEveryBit) {
  for (const Instruction instruction : {Instruction::MmaFp16, Instruction::MmaBf16}) {
    for (const double product : kProducts) {
      const Kept kept = probe(instruction, product, device_).kept;
      EXPECT_EQ(kept.bits, 23) << name_of(instruction) << ", product " << product;
      EXPECT_TRUE(kept.exact()) << kept.lowest << " to " << kept.highest;
    }
  }
}

// Hopper's own instruction; of mma.sync, which is made of f16 products there, and of newer chips nothing is
// said but that no more is lost than in FP16.
TEST_F(OnGpu, Fp8ProductsKeepFewer) {
  for (const Instruction instruction : instructions_of(device_)) {
    if (keys_of(instruction) != 32) continue;
    for (const double product : kProducts) {
      const Kept kept = probe(instruction, product, device_).kept;
      std::printf("%s, product %g: %d bits, %s, %g to %g\n", name_of(instruction).data(), product, kept.bits,
                  kept.rest().data(), kept.lowest, kept.highest);
      EXPECT_GE(kept.bits, 10);
      EXPECT_LT(std::max(-kept.lowest, kept.highest), 4);
      // An instruction may skip a product of zeros.
      const bool fewer = instruction == Instruction::WgmmaFp8 && product != 0;
      EXPECT_LE(kept.bits, fewer ? 22 : 23) << name_of(instruction) << ", product " << product;
    }
  }
}

// Emptied into fp32 every few keys, the product is right whatever the accumulator keeps: so the operands lie
// where the instructions look for them.
TEST_F(OnGpu, TwoLevelsAreCloser) {
  const Operands x = draw_operands(16384, device_);
  for (const Instruction instruction : instructions_of(device_)) {
    const double one = error(instruction, x, 16384), two = error(instruction, x, 128);
    std::printf("%s: %.3e in one accumulator, %.3e emptied every 128 keys\n", name_of(instruction).data(),
                one, two);
    EXPECT_LT(two, 3e-3) << name_of(instruction);
    // One accumulator that keeps fp32's bits is as good as two levels.
    const bool fp32 = instruction != Instruction::WgmmaFp8 && one < 1e-5;
    EXPECT_TRUE(fp32 || two < one) << name_of(instruction);
  }
}

}  // namespace
}  // namespace sagelab::attention::study
