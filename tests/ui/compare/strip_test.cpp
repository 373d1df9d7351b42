// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/maths/strip.h"

#include <gtest/gtest.h>

#include <cmath>

namespace sagelab::ui {
namespace {

TEST(Strip, RangeIsOfWhatIsFinite) {
  const auto range = range_of({30, INFINITY, 42, NAN}, 1);
  EXPECT_DOUBLE_EQ(range.low, 29);
  EXPECT_DOUBLE_EQ(range.high, 43);
  EXPECT_DOUBLE_EQ(range_of({INFINITY}, 1).low, 0);
  EXPECT_DOUBLE_EQ(range_of({}, 1).high, 1);
}

TEST(Strip, HeightsAreWithinTheStrip) {
  const StripRange range{20, 40};
  EXPECT_DOUBLE_EQ(height_of(20, range), 0);
  EXPECT_DOUBLE_EQ(height_of(35, range), .75);
  EXPECT_DOUBLE_EQ(height_of(50, range), 1);
  EXPECT_DOUBLE_EQ(height_of(INFINITY, range), 1);
  EXPECT_DOUBLE_EQ(height_of(NAN, range), 0);
  EXPECT_DOUBLE_EQ(height_of(5, {3, 3}), 0);
}

TEST(Strip, TheWorstFrameIsTheLowest) {
  EXPECT_EQ(worst_frame({INFINITY, 31, 30, 33}), 2);
  EXPECT_EQ(worst_frame({30, 30}), 0);
  EXPECT_EQ(worst_frame({INFINITY}), -1);
  EXPECT_EQ(worst_frame({}), -1);
}

TEST(Strip, MeansLeaveEqualFramesOut) {
  EXPECT_DOUBLE_EQ(mean_of({30, INFINITY, 20}), 25);
  EXPECT_TRUE(std::isinf(mean_of({INFINITY, INFINITY})));
  EXPECT_TRUE(std::isnan(mean_of({})));
  EXPECT_TRUE(std::isnan(mean_of({NAN})));
}

TEST(Strip, Texts) {
  EXPECT_EQ(psnr_text(38.24), "38.2 dB");
  EXPECT_EQ(psnr_text(INFINITY), "equal");
  EXPECT_EQ(psnr_text(NAN), "-");
  EXPECT_EQ(ssim_text(.98123), "0.9812");
  EXPECT_EQ(ssim_text(NAN), "-");
}

TEST(Strip, PartsOfItsWidth) {
  EXPECT_EQ(part_at(100, 100, 200, 4), 0);
  EXPECT_EQ(part_at(124.9, 100, 200, 4), 0);
  EXPECT_EQ(part_at(125, 100, 200, 4), 1);
  EXPECT_EQ(part_at(500, 100, 200, 4), 3);
  EXPECT_EQ(part_at(0, 100, 200, 4), 0);
  EXPECT_EQ(part_at(150, 100, 200, 0), 0);
}

TEST(Strip, StepsHaveThreeDigits) {
  EXPECT_EQ(step_text(123.4), "123 s");
  EXPECT_EQ(step_text(1234), "1234 s");
  EXPECT_EQ(step_text(.9996), "1.00 s");
  EXPECT_EQ(step_text(9.996), "10.0 s");
  EXPECT_EQ(step_text(99.96), "100 s");
  EXPECT_EQ(step_text(12.34), "12.3 s");
  EXPECT_EQ(step_text(1), "1.00 s");
  EXPECT_EQ(step_text(.5128), "513 ms");
  EXPECT_EQ(step_text(.03), "30.0 ms");
  EXPECT_EQ(step_text(.002088), "2.09 ms");
  EXPECT_EQ(step_text(.0002088), "0.209 ms");
}

}  // namespace
}  // namespace sagelab::ui
