// SPDX-License-Identifier: Apache-2.0
#include "attention/study/stages.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "attention/recorder.h"
#include "attention/registry.h"

namespace sagelab::attention::study {
namespace {

TEST(Stages, TheCpuHasNone) {
  EXPECT_EQ(stages_unsupported(at::kCPU), "the kernel is Hopper's, and cpu is none");
}

TEST(Stages, TheFirstIsTheKernelAsItIs) {
  const auto all = stage_variants();
  ASSERT_EQ(all.size(), 17u);
  EXPECT_EQ(all.front().variant, Variant::Whole);
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(size_t(all[i].variant), i) << all[i].name;
}

class StagesOnGpu : public ::testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override {
    const std::string reason =
        at::hasCUDA() ? stages_unsupported(device_) : std::string("there is no CUDA device");
    if (!reason.empty()) GTEST_SKIP() << reason;
    at::manual_seed(11);
    const auto drawn = [&] {
      return at::randn({2, 1000, 3, GetParam()}, at::TensorOptions().device(device_).dtype(at::kBFloat16));
    };
    call_.q = drawn(), call_.k = drawn(), call_.v = drawn();
    call_.scale = 1 / std::sqrt(double(GetParam()));
  }
  at::Tensor run(Variant variant) {
    call_.out = at::full_like(call_.q, NAN);
    const auto work = prepare_stage(call_, variant);
    work();
    const at::Tensor first = call_.out.clone();
    work();  // what a launch counts stands at nought again
    EXPECT_TRUE(call_.out.eq(first).logical_or(first.isnan()).all().item<bool>());
    return first;
  }
  const at::Device device_{at::kCUDA, 0};
  Call call_;
  const c10::InferenceMode inference_;
};

TEST_P(StagesOnGpu, TheWholeKernelIsSage2s) {
  const at::Tensor out = run(Variant::Whole);
  Recorder recorder;
  call_.out.reset();
  const auto sage2 = make_backend("sage2(mean=full,smooth_v=off,v=channel)");
  EXPECT_TRUE(out.equal(sage2->run(call_, recorder).out));
}

TEST_P(StagesOnGpu, EveryVariantEnds) {
  for (const auto& variant : stage_variants()) {
    SCOPED_TRACE(variant.name);
    run(variant.variant);
  }
}

// They change P before it is rounded to e4m3, by 1.8e-3 at most.
TEST_P(StagesOnGpu, PolynomialsAreExponentials) {
  const at::Tensor whole = run(Variant::Whole).to(at::kFloat);
  for (const auto variant :
       {Variant::Polynomial2, Variant::Polynomial4, Variant::Polynomial6, Variant::Polynomial8,
        Variant::HalvesPolynomial2, Variant::HalvesPolynomial4, Variant::HalvesPolynomial6}) {
    SCOPED_TRACE(int(variant));
    const at::Tensor off = run(variant).to(at::kFloat) - whole;
    const double error = (off.norm() / whole.norm()).item<double>();
    EXPECT_LT(error, 1e-2);
    EXPECT_GT(error, 0);
  }
}

// Maxima come in other steps, and sums are rounded elsewhere.
TEST_P(StagesOnGpu, HalvesAreTheWhole) {
  const at::Tensor whole = run(Variant::Whole).to(at::kFloat);
  EXPECT_LT(((run(Variant::Halves).to(at::kFloat) - whole).norm() / whole.norm()).item<double>(), 2e-2);
}

TEST_P(StagesOnGpu, TheClockIsOneOfAGpu) {
  const double hertz = clock_rate(device_, [] {});
  EXPECT_GT(hertz, 1e8);
  EXPECT_LT(hertz, 4e9);
  EXPECT_NEAR(tiles_per_processor(call_), 8 * 8 * 6 / 132., .5);
}

INSTANTIATE_TEST_SUITE_P(HeadDim, StagesOnGpu, ::testing::Values(64, 128));

}  // namespace
}  // namespace sagelab::attention::study
