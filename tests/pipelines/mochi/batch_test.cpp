// SPDX-License-Identifier: Apache-2.0
// Whole batches of texts that differ in length.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/pipelines/mochi/fixture.h"
#include "tests/support/transformer_habits.h"

namespace sagelab::mochi {
namespace {

using testing::Dump;
using ::testing::HasSubstr;
using testing::matches;

class BatchParity : public ::testing::TestWithParam<const char*> {
 protected:
  const Dump dump_ = dump_of(std::string(GetParam()));
  const TransformerConfig config_ = config_of(GetParam());
};

TEST_P(BatchParity, IsTheirs) {
  EXPECT_TRUE(matches(run(open(GetParam()), inputs_of(dump_, config_)), dump_, "output", kBound));
}

// tests/oracle/mochi/mutants.py
TEST_P(BatchParity, EveryMutantFails) {
  static const std::map<std::string, size_t> kLeast = {
      {"picture", 200}, {"clip", 284}, {"odd_config", 201}, {"default_keys", 198}};
  testing::expect_every_mutant_fails({{"output", run(open(GetParam()), inputs_of(dump_, config_))}}, dump_,
                                     Dump(testing::fixture("mochi", GetParam()) / "mutants.safetensors"),
                                     kLeast.at(GetParam()));
}

TEST_P(BatchParity, HalfPrecisionLosesNoMoreThanDiffusers) {
  testing::expect_half_precision_loses_no_more(dump_, [&](const Target& target) {
    return run(open(GetParam(), target), inputs_of(dump_, config_, target));
  });
}

// Blocks that stay in host memory compute the same.
TEST_P(BatchParity, StreamedBlocksGiveTheSameBits) {
  const Inputs in = inputs_of(dump_, config_);
  const Target streamed{at::kCPU, at::kFloat, true};
  EXPECT_TRUE(at::equal(run(open(GetParam(), streamed), in), run(open(GetParam()), in)));
}

// What the constructor asks for on the meta device is what the file holds.
TEST_P(BatchParity, NamesAndShapesOnMetaAreTheFiles) {
  EXPECT_EQ(testing::asked_for<Transformer>(config_), testing::stored_in(folder_of(GetParam())));
}

TEST_P(BatchParity, RandomWeightsRun) {
  testing::expect_random_weights_run<Transformer>(
      config_, dump_, [&](const Target& target) { return inputs_of(dump_, config_, target); });
}

INSTANTIATE_TEST_SUITE_P(Mochi, BatchParity, ::testing::ValuesIn(kFixtureNames),
                         [](const auto& info) { return std::string(info.param); });

TEST(MochiInputs, WhatDoesNotFitIsNamed) {
  const Transformer model = open("clip");
  const Inputs in = inputs_of(dump_of(std::string("clip")), model.config());
  const auto message = [&](const std::function<void(Inputs&)>& spoil) {
    return testing::complaint(model, in, spoil);
  };
  EXPECT_THAT(message([](Inputs& in) { in.latents = in.latents.narrow(1, 0, 3); }),
              HasSubstr("latents should be [B, 12, T, h, w], not [2, 3, 3, 10, 6]"));
  EXPECT_THAT(message([](Inputs& in) { in.latents = in.latents.narrow(3, 0, 9); }),
              HasSubstr("of patches 2 x 2, not [2, 12, 3, 9, 6]"));
  EXPECT_THAT(message([](Inputs& in) { in.text = in.text.narrow(0, 0, 1); }),
              HasSubstr("text should be [2, L, 32], not [1, 9, 32]"));
  EXPECT_THAT(message([](Inputs& in) { in.text = in.text.to(at::kHalf); }),
              HasSubstr("text is Half, latents are Float"));
  EXPECT_THAT(message([](Inputs& in) { in.lengths = in.lengths.to(at::kInt); }),
              HasSubstr("lengths should be int64 [2] on the CPU"));
  EXPECT_THAT(message([](Inputs& in) {
                in.lengths = at::tensor({9, -1}, at::kLong);
              }),
              HasSubstr("lengths should be 0 to 9, not -1"));
  EXPECT_THAT(message([](Inputs& in) {
                in.lengths = at::tensor({10, 4}, at::kLong);
              }),
              HasSubstr("lengths should be 0 to 9, not 10"));
  EXPECT_THAT(message([](Inputs& in) { in.t = in.t.narrow(0, 0, 1); }),
              HasSubstr("t should be [2], not [1]"));
  EXPECT_THAT(message([](Inputs& in) { in.positions = in.positions.narrow(0, 0, 44); }),
              HasSubstr("positions should be positions_of's for 45 tokens"));
  EXPECT_EQ(message([](Inputs&) {}), "nothing was thrown");
}

TEST(MochiAttention, QuantizedAttentionIsNear) {
  const Dump dump = dump_of(std::string("default_keys"));
  const Transformer model = open("default_keys");
  testing::expect_quantized_attention_is_near(model, inputs_of(dump, model.config()), dump);
}

}  // namespace
}  // namespace sagelab::mochi
