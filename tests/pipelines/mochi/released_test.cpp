// SPDX-License-Identifier: Apache-2.0
// The released transformer: what is read of it, and what a forward takes.
#include <gtest/gtest.h>

#include "tests/pipelines/mochi/fixture.h"

namespace sagelab::mochi {
namespace {

TransformerConfig released() {
  Config values(nlohmann::json::object(), "config.json");
  return TransformerConfig(values);
}

TEST(MochiReleased, NamesShapesAndParametersAreTheirs) {
  const nlohmann::json theirs = read_json(testing::fixture("mochi", "released.json"));
  std::vector<std::pair<std::string, std::vector<int64_t>>> expected;
  for (const auto& [key, shape] : theirs.items())
    expected.emplace_back(key, shape.get<std::vector<int64_t>>());
  const auto ours = testing::asked_for<Transformer>(released());
  EXPECT_EQ(ours, expected);
  EXPECT_EQ(ours.size(), 1071u);
  int64_t parameters = 0;
  for (const auto& [name, shape] : ours) parameters += c10::multiply_integers(shape);
  EXPECT_EQ(parameters, 10'027'677'744);
}

// From their shapes: 19, 85 and 163 frames of 848 x 480, with 256 rows of text.
TEST(MochiReleased, FlopsAreThoseOfTheirSizes) {
  const TransformerConfig c = released();
  EXPECT_NEAR(flops(c, 4 * 1590, 256), 96e12, 1e12);
  EXPECT_NEAR(flops(c, 15 * 1590, 256), 603e12, 1e12);
  EXPECT_NEAR(flops(c, 28 * 1590, 256), 1667e12, 2e12);
}

}  // namespace
}  // namespace sagelab::mochi
