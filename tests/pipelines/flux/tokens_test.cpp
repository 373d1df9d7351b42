// SPDX-License-Identifier: Apache-2.0
#include "pipelines/flux/tokens.h"

#include <gtest/gtest.h>

#include "tests/pipelines/flux/fixture.h"

namespace sagelab::flux {
namespace {

class TokensParity : public ::testing::TestWithParam<const char*> {
 protected:
  const testing::Dump dump_ = dump_of(GetParam());
  const TransformerConfig config_ = config_of(GetParam());
};

TEST_P(TokensParity, PackedAsThePipelineDoes) {
  EXPECT_TRUE(at::equal(pack(dump_["latents"]), dump_["tokens"]));
  EXPECT_TRUE(at::equal(unpack(dump_["tokens"], grid_of(dump_)), dump_["latents"]));
  EXPECT_TRUE(at::equal(unpack(dump_["output"], grid_of(dump_)), dump_["unpacked"]));
}

// Bit by bit: the same operations in fp64, rounded once.
TEST_P(TokensParity, RopeTablesAreTheirs) {
  const int64_t text_len = dump_["text"].size(1);
  const auto equal = [&](const std::string& name, const Grid& grid, at::ScalarType dtype) {
    const attention::Rope rope = rope_table(config_, text_len, grid, {at::kCPU, dtype});
    EXPECT_TRUE(at::equal(rope.cos, dump_[name + ".cos"])) << name;
    EXPECT_TRUE(at::equal(rope.sin, dump_[name + ".sin"])) << name;
  };
  const Grid far{2, 300};
  equal("rope", grid_of(dump_), at::kFloat);
  equal("far", far, at::kFloat);
  equal("far", far, at::kHalf);
  equal("far.bf16", far, at::kBFloat16);
  EXPECT_FALSE(at::equal(dump_["far.cos"], dump_["far.bf16.cos"]));
}

INSTANTIATE_TEST_SUITE_P(Fixtures, TokensParity, ::testing::ValuesIn(kFixtureNames),
                         [](const auto& info) { return std::string(info.param); });

TEST(FluxTokens, WhatDoesNotDivideIsNamed) {
  EXPECT_THROW(pack(at::zeros({1, 4, 3, 4})), c10::Error);
  EXPECT_THROW(pack(at::zeros({1, 4, 4, 5})), c10::Error);
  EXPECT_THROW(pack(at::zeros({4, 4, 4})), c10::Error);
  EXPECT_THROW(unpack(at::zeros({1, 6, 8}), {2, 2}), c10::Error);
  EXPECT_THROW(unpack(at::zeros({1, 4, 6}), {2, 2}), c10::Error);
}

}  // namespace
}  // namespace sagelab::flux
