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
  ASSERT_EQ(all.size(), 8u);
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
    // More tiles of queries than processors: blocks go from one to the next.
    const auto drawn = [&] {
      return at::randn({2, 1000, kHeads, GetParam()},
                       at::TensorOptions().device(device_).dtype(at::kBFloat16));
    };
    call_.q = drawn(), call_.k = drawn(), call_.v = drawn();
    call_.scale = 1 / std::sqrt(double(GetParam()));
    call_.out = at::empty_like(call_.q);
  }
  at::Tensor run(Variant variant) {
    const auto work = prepare_stages(call_);
    const auto once = [&] {
      call_.out.fill_(kPoison);
      work(variant);
      EXPECT_FALSE(call_.out.eq(kPoison).any().item<bool>()) << "not all is written";
      return call_.out.clone();
    };
    const at::Tensor first = once();
    once();  // what a launch counts stands at nought again
    return first;
  }

  static constexpr int64_t kHeads = 20;
  static constexpr double kPoison = 0x1p100;
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

TEST_P(StagesOnGpu, TheClockIsOneOfAGpu) {
  const double hertz = clock_rate(device_, [] {});
  EXPECT_GT(hertz, 1e8);
  EXPECT_LT(hertz, 4e9);
  const double processors = 8 * 8 * 2 * kHeads / tiles_per_processor(call_);
  EXPECT_NEAR(processors, std::round(processors), 1e-6);
  EXPECT_GE(processors, 16);
}

INSTANTIATE_TEST_SUITE_P(HeadDim, StagesOnGpu, ::testing::Values(64, 128));

}  // namespace
}  // namespace sagelab::attention::study
