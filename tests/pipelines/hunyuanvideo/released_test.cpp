// SPDX-License-Identifier: Apache-2.0
// The released transformer: what is read of it, and what a forward takes.
#include <gtest/gtest.h>

#include "pipelines/hunyuanvideo/pipeline.h"
#include "tests/pipelines/hunyuanvideo/fixture.h"

namespace sagelab::hunyuanvideo {
namespace {

TransformerConfig released() {
  Config values(nlohmann::json::object(), "config.json");
  return TransformerConfig(values);
}

TEST(HunyuanVideoReleased, NamesShapesAndParametersAreTheirs) {
  const nlohmann::json theirs = read_json(testing::fixture("hunyuanvideo", "released.json"));
  std::vector<std::pair<std::string, std::vector<int64_t>>> expected;
  for (const auto& [key, shape] : theirs.items())
    expected.emplace_back(key, shape.get<std::vector<int64_t>>());
  const auto ours = testing::asked_for<Transformer>(released());
  EXPECT_EQ(ours, expected);
  EXPECT_EQ(ours.size(), 1264u);
  int64_t parameters = 0;
  for (const auto& [name, shape] : ours) parameters += c10::multiply_integers(shape);
  EXPECT_EQ(parameters, 12'821'012'544);
}

// From their shapes: 129 frames of 1280 x 720, 129 of 960 x 544, 61 of 512 x 320, with 256 rows of text.
TEST(HunyuanVideoReleased, FlopsAreThoseOfTheirSizes) {
  const TransformerConfig c = released();
  EXPECT_NEAR(flops(c, 33 * 45 * 80, 256), 12069e12, 2e12);
  EXPECT_NEAR(flops(c, 33 * 34 * 60, 256), 4285e12, 2e12);
  EXPECT_NEAR(flops(c, 16 * 20 * 32, 256), 224e12, 0.6e12);
}

TEST(HunyuanVideoReleased, TheBenchIsItAtItsDefaultSize) {
  const BenchModel model = family().bench("13b", {at::kMeta, at::kBFloat16});
  EXPECT_EQ(model.latent_shape, (std::vector<int64_t>{1, 16, 33, 90, 160}));
  EXPECT_EQ(model.tokens, 119'056);
  EXPECT_EQ(model.flops, flops(released(), 118'800, 256));
  EXPECT_THROW(family().bench("14b", {at::kMeta, at::kBFloat16}), Error);
}

}  // namespace
}  // namespace sagelab::hunyuanvideo
