// SPDX-License-Identifier: Apache-2.0
#include "pipelines/hunyuanvideo/tokens.h"

#include <gtest/gtest.h>

#include "tests/pipelines/hunyuanvideo/fixture.h"

namespace sagelab::hunyuanvideo {
namespace {

class TokensParity : public ::testing::TestWithParam<const char*> {
 protected:
  const testing::Dump dump_ = dump_of(std::string(GetParam()));
  const TransformerConfig config_ = config_of(GetParam());
};

// Bit by bit: the same operations in fp32.
TEST_P(TokensParity, RopeTablesAreTheirs) {
  constexpr int64_t kText = 5;
  const auto expect_equal = [&](const std::string& name, const Grid& grid) {
    const attention::Rope rope = rope_table(config_, grid, kText, at::kCPU);
    ASSERT_EQ(rope.cos.size(0), grid.tokens() + kText);
    EXPECT_TRUE(at::equal(rope.cos.narrow(0, 0, grid.tokens()), dump_[name + ".cos"])) << name;
    EXPECT_TRUE(at::equal(rope.sin.narrow(0, 0, grid.tokens()), dump_[name + ".sin"])) << name;
    EXPECT_TRUE(rope.cos.narrow(0, grid.tokens(), kText).eq(1).all().item<bool>());
    EXPECT_TRUE(rope.sin.narrow(0, grid.tokens(), kText).eq(0).all().item<bool>());
  };
  expect_equal("rope", grid_of(config_, dump_["latents"]));
  expect_equal("far", {5, 3, 97});
}

TEST_P(TokensParity, UnpackIsTheWayBack) {
  const at::Tensor latents = dump_["latents"];
  const Grid grid = grid_of(config_, latents);
  const at::Tensor tokens = pack(config_, latents);
  EXPECT_EQ(tokens.sizes(),
            at::IntArrayRef({latents.size(0), grid.tokens(), config_.in_channels * config_.patch_volume()}));
  EXPECT_TRUE(at::equal(unpack(config_, tokens, grid), latents));
}

INSTANTIATE_TEST_SUITE_P(HunyuanVideo, TokensParity, ::testing::ValuesIn(kFixtureNames),
                         [](const auto& info) { return std::string(info.param); });

TEST(HunyuanVideoTokens, WhatDoesNotDivideIsNamed) {
  Config values(nlohmann::json{{"patch_size_t", 2}}, "config.json");
  const TransformerConfig c(values);
  EXPECT_NO_THROW(pack(c, at::zeros({1, 4, 2, 4, 6})));
  EXPECT_THROW(pack(c, at::zeros({1, 4, 3, 4, 6})), c10::Error);
  EXPECT_THROW(pack(c, at::zeros({1, 4, 2, 3, 6})), c10::Error);
  EXPECT_THROW(pack(c, at::zeros({1, 4, 2, 4, 5})), c10::Error);
  EXPECT_THROW(pack(c, at::zeros({4, 2, 4, 6})), c10::Error);
  EXPECT_THROW(unpack(c, at::zeros({1, 6, 16}), {1, 2, 2}), c10::Error);
  EXPECT_THROW(unpack(c, at::zeros({1, 4, 6}), {1, 2, 2}), c10::Error);
}

}  // namespace
}  // namespace sagelab::hunyuanvideo
