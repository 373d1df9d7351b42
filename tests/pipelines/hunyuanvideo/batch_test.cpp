// SPDX-License-Identifier: Apache-2.0
// Whole batches of texts that differ in length.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/pipelines/hunyuanvideo/fixture.h"
#include "tests/support/transformer_habits.h"

namespace sagelab::hunyuanvideo {
namespace {

using testing::Dump;
using ::testing::HasSubstr;
using testing::matches;
using testing::relative_l2;

class BatchParity : public ::testing::TestWithParam<const char*> {
 protected:
  const Dump dump_ = dump_of(std::string(GetParam()));
  const TransformerConfig config_ = config_of(GetParam());
};

TEST_P(BatchParity, IsTheirs) {
  EXPECT_TRUE(matches(run(open(GetParam()), inputs_of(dump_, config_)), dump_, "output", kBound));
}

// tests/oracle/hunyuanvideo/mutants.py
TEST_P(BatchParity, EveryMutantFails) {
  static const std::map<std::string, size_t> kLeast = {
      {"picture", 304}, {"clip", 290}, {"odd_config", 257}, {"default_axes", 187}};
  testing::expect_every_mutant_fails(
      {{"output", run(open(GetParam()), inputs_of(dump_, config_))},
       {"far.cos", rope_table(config_, {5, 3, 97}, 0, at::kCPU).cos}},
      dump_, Dump(testing::fixture("hunyuanvideo", GetParam()) / "mutants.safetensors"),
      kLeast.at(GetParam()));
}

TEST_P(BatchParity, HalfPrecisionLosesNoMoreThanDiffusers) {
  testing::expect_half_precision_loses_no_more(dump_, [&](const Target& target) {
    return run(open(GetParam(), target), inputs_of(dump_, config_, target));
  });
}

// Guidance that bf16 cannot hold is rounded where diffusers' pipeline rounds it: its own result is a hair's
// breadth away, and far from that of the scale as it was.
TEST_P(BatchParity, HalfPrecisionRoundsTheGuidanceAlike) {
  if (!config_.guidance_embeds) GTEST_SKIP() << "this model has no guidance";
  const auto temb_of = [&](Target target) {
    Inputs in = inputs_of(dump_, config_, target);
    in.guidance = dump_["rounded.guidance"];
    std::vector<at::Tensor> each;
    run(open(GetParam(), target), in, [&](const std::string& name, const at::Tensor& value) {
      if (name == "temb") each.push_back(value.to(at::kFloat));
    });
    return at::cat(each);
  };
  EXPECT_LE(relative_l2(temb_of({at::kCPU, at::kBFloat16}), dump_["bf16.temb"]), 2e-3);
  EXPECT_GE(relative_l2(temb_of({}), dump_["bf16.temb"]), 2e-2);
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

INSTANTIATE_TEST_SUITE_P(HunyuanVideo, BatchParity, ::testing::ValuesIn(kFixtureNames),
                         [](const auto& info) { return std::string(info.param); });

TEST(HunyuanVideoInputs, WhatDoesNotFitIsNamed) {
  const Transformer model = open("clip");
  const Inputs in = inputs_of(dump_of(std::string("clip")), model.config());
  const auto message = [&](const std::function<void(Inputs&)>& spoil) {
    return testing::complaint(model, in, spoil);
  };
  EXPECT_THAT(message([](Inputs& in) { in.latents = in.latents.narrow(1, 0, 3); }),
              HasSubstr("latents should be [B, 4, T, h, w], not [2, 3, 3, 10, 6]"));
  EXPECT_THAT(message([](Inputs& in) { in.latents = in.latents.narrow(3, 0, 9); }),
              HasSubstr("of patches 1 x 2 x 2, not [2, 4, 3, 9, 6]"));
  EXPECT_THAT(message([](Inputs& in) { in.text = in.text.narrow(0, 0, 1); }),
              HasSubstr("text should be [2, L, 32], not [1, 9, 32]"));
  EXPECT_THAT(message([](Inputs& in) { in.pooled = in.pooled.narrow(1, 0, 3); }),
              HasSubstr("pooled should be [2, 20], not [2, 3]"));
  EXPECT_THAT(message([](Inputs& in) { in.lengths = in.lengths.to(at::kInt); }),
              HasSubstr("lengths should be int64 [2] on the CPU"));
  EXPECT_THAT(message([](Inputs& in) {
                in.lengths = at::tensor({9, 0}, at::kLong);
              }),
              HasSubstr("lengths should be 1 to 9, not 0"));
  EXPECT_THAT(message([](Inputs& in) {
                in.lengths = at::tensor({10, 4}, at::kLong);
              }),
              HasSubstr("lengths should be 1 to 9, not 10"));
  EXPECT_THAT(message([](Inputs& in) { in.guidance = at::Tensor(); }), HasSubstr("guidance should be given"));
  EXPECT_THAT(message([](Inputs& in) { in.guidance = in.guidance.narrow(0, 0, 1); }),
              HasSubstr("guidance should be [2], not [1]"));
  EXPECT_THAT(message([](Inputs& in) { in.rope.cos = in.rope.cos.narrow(0, 0, 53); }),
              HasSubstr("rope should be rope_table's for 45 + 9 rows"));
  EXPECT_EQ(message([](Inputs&) {}), "nothing was thrown");
}

TEST(HunyuanVideoAttention, QuantizedAttentionIsNear) {
  const Dump dump = dump_of(std::string("default_axes"));
  const Transformer model = open("default_axes");
  testing::expect_quantized_attention_is_near(model, inputs_of(dump, model.config()), dump);
}

}  // namespace
}  // namespace sagelab::hunyuanvideo
