// SPDX-License-Identifier: Apache-2.0
// PSNR and SSIM against scikit-image, and definitions that are near ours but not ours.
#include "app/compare/metrics.h"

#include <set>

#include "tests/app/support.h"
#include "tests/support/parity.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;

Picture picture_of(const at::Tensor& frames) {  // [T, H, W, 3]
  const at::Tensor bytes = frames.contiguous();
  Picture picture{int(bytes.size(0)), int(bytes.size(1)), int(bytes.size(2)), {}};
  picture.pixels.assign(bytes.const_data_ptr<uint8_t>(), bytes.const_data_ptr<uint8_t>() + bytes.numel());
  return picture;
}

struct Metrics : ::testing::Test {
  Dump dump{fs::path(SAGELAB_FIXTURES) / "metrics" / "metrics.safetensors"};

  std::set<std::string> cases() const {
    std::set<std::string> names;
    for (const auto& [key, tensor] : dump.tensors()) names.insert(key.substr(0, key.find('.')));
    return names;
  }
  Quality quality(const std::string& name) const {
    return quality_of(picture_of(dump[name + ".a"].unsqueeze(0)), picture_of(dump[name + ".b"].unsqueeze(0)));
  }
};

TEST_F(Metrics, AreScikitImages) {
  const auto names = cases();
  ASSERT_GE(names.size(), 10u);
  for (const auto& name : names) {
    const at::Tensor expected = dump[name + ".expected"];
    const Quality ours = quality(name);
    EXPECT_NEAR(ours.psnr.at(0), expected[0].item<double>(), 1e-10) << name;
    EXPECT_NEAR(ours.ssim.at(0), expected[1].item<double>(), 1e-10) << name;
  }
}

TEST_F(Metrics, EveryOtherDefinitionIsSeen) {
  std::map<std::string, double> furthest;
  for (const auto& [key, tensor] : dump.tensors()) {
    const size_t dot = key.find('.'), second = key.find('.', dot + 1);
    if (second == std::string::npos) continue;
    const Quality ours = quality(key.substr(0, dot));
    const double value = key.find(".psnr.") != std::string::npos ? ours.psnr.at(0) : ours.ssim.at(0);
    auto& far = furthest[key.substr(dot + 1)];
    far = std::max(far, std::abs(value - tensor.item<double>()));
  }
  ASSERT_EQ(furthest.size(), 10u);
  for (const auto& [mutant, far] : furthest) EXPECT_GT(far, 1e-5) << mutant;
}

TEST_F(Metrics, EachFrameIsOnItsOwn) {
  const auto a = dump["faint_noise.a"], b = dump["faint_noise.b"], c = dump["blurred.b"];
  const auto quality = quality_of(picture_of(at::stack({b, a, c})), picture_of(at::stack({a, a, a})));
  EXPECT_NEAR(quality.psnr[0], dump["faint_noise.expected"][0].item<double>(), 1e-10);
  EXPECT_NEAR(quality.ssim[2], dump["blurred.expected"][1].item<double>(), 1e-10);
  EXPECT_EQ(quality.psnr[1], std::numeric_limits<double>::infinity());
  EXPECT_EQ(quality.ssim[1], 1);
  EXPECT_EQ(quality.identical_frames, 1);
}

TEST(QualityOf, VideosOfDifferentSizesAreRefused) {
  EXPECT_THROW(quality_of(smooth_clip(2, 32, 16), smooth_clip(2, 16, 32)), std::exception);
  EXPECT_THROW(quality_of(smooth_clip(2, 32, 16), smooth_clip(3, 32, 16)), std::exception);
}

TEST(QualityOf, AFrameSmallerThanTheWindowHasNoSsim) {
  auto other = smooth_clip(1, 10, 16);
  other.pixels[5] ^= 1;
  const auto quality = quality_of(other, smooth_clip(1, 10, 16));
  EXPECT_TRUE(std::isnan(quality.ssim.at(0)));
  EXPECT_NEAR(quality.psnr.at(0), 10 * std::log10(255.0 * 255 * 480), 1e-9);
}

TEST(TemporalConsistency, CountsLevelsBetweenFrames) {
  Picture picture{3, 1, 2, {0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 6, 12, 0, 0, 0, 18}};
  EXPECT_EQ(frame_changes(picture), (std::vector<double>{1, 5}));
  EXPECT_DOUBLE_EQ(flicker_score({1, 5}), 252.0 / 255);
  EXPECT_TRUE(frame_changes(smooth_clip(1, 8, 8)).empty());
  EXPECT_TRUE(std::isnan(flicker_score({})));
}

}  // namespace
}  // namespace sagelab
