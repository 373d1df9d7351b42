// SPDX-License-Identifier: Apache-2.0
#include "pipelines/mochi/tokens.h"

#include <gtest/gtest.h>

#include "tests/pipelines/mochi/fixture.h"

namespace sagelab::mochi {
namespace {

class TokensParity : public ::testing::TestWithParam<const char*> {
 protected:
  const testing::Dump dump_ = dump_of(std::string(GetParam()));
  const TransformerConfig config_ = config_of(GetParam());
};

// Bit by bit: the same operations in fp32.
TEST_P(TokensParity, PositionsAreTheirs) {
  EXPECT_TRUE(at::equal(positions_of(grid_of(config_, dump_["latents"]), at::kCPU), dump_["positions"]));
  EXPECT_TRUE(at::equal(positions_of({5, 3, 97}, at::kCPU), dump_["far"]));
}

// A token that leaves the model has its channels last.
TEST_P(TokensParity, UnpackIsTheWayBackFromChannelsLast) {
  const at::Tensor latents = dump_["latents"], tokens = pack(config_, latents);
  const Grid grid = grid_of(config_, latents);
  const int64_t area = config_.patch_area();
  EXPECT_EQ(tokens.sizes(), at::IntArrayRef({latents.size(0), grid.tokens(), config_.in_channels * area}));
  const at::Tensor turned = tokens.unflatten(2, {config_.in_channels, area}).transpose(2, 3).flatten(2);
  EXPECT_TRUE(at::equal(unpack(config_, turned, grid), latents));
}

INSTANTIATE_TEST_SUITE_P(Mochi, TokensParity, ::testing::ValuesIn(kFixtureNames),
                         [](const auto& info) { return std::string(info.param); });

TEST(MochiTokens, WhatDoesNotDivideIsNamed) {
  Config values(nlohmann::json::object(), "config.json");
  const TransformerConfig c(values);
  EXPECT_NO_THROW(pack(c, at::zeros({1, 4, 3, 4, 6})));
  EXPECT_THROW(pack(c, at::zeros({1, 4, 2, 3, 6})), c10::Error);
  EXPECT_THROW(pack(c, at::zeros({1, 4, 2, 4, 5})), c10::Error);
  EXPECT_THROW(pack(c, at::zeros({4, 2, 4, 6})), c10::Error);
  EXPECT_THROW(unpack(c, at::zeros({1, 6, 16}), {1, 2, 2}), c10::Error);
  EXPECT_THROW(unpack(c, at::zeros({1, 4, 6}), {1, 2, 2}), c10::Error);
}

}  // namespace
}  // namespace sagelab::mochi
