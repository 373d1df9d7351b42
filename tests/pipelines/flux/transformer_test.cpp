// SPDX-License-Identifier: Apache-2.0
#include "pipelines/flux/transformer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/pipelines/flux/fixture.h"
#include "tests/support/joint_only.h"
#include "tests/support/transformer_habits.h"

namespace sagelab::flux {
namespace {

using testing::Dump;
using testing::matches;
using testing::relative_l2;

class TransformerParity : public ::testing::TestWithParam<const char*> {
 protected:
  const Dump dump_ = dump_of(GetParam());
};

TEST_P(TransformerParity, EveryStage) {
  const Transformer model = open(GetParam());
  std::vector<std::string> names = {"temb", "x_embedder", "context_embedder"};
  for (int64_t i = 0; i < model.config().layers; ++i) names.push_back(fmt::format("block.{}", i));
  for (int64_t i = 0; i < model.config().single_layers; ++i) names.push_back(fmt::format("single.{}", i));
  testing::expect_stages(model, inputs_of(dump_, model.config()), dump_, names);
}

TEST_P(TransformerParity, ARowOfABatchAlone) {
  const Transformer model = open(GetParam());
  const Inputs in = inputs_of(dump_, model.config());
  const at::Tensor all = run(model, in);
  for (int64_t row = 0; row < all.size(0); ++row) {
    const auto one = [&](const at::Tensor& x) { return x.defined() ? x.narrow(0, row, 1) : x; };
    const Inputs single{one(in.tokens), one(in.text), one(in.pooled), one(in.t), one(in.guidance), in.rope};
    EXPECT_LE(relative_l2(run(model, single), one(all)), kBound) << "row " << row;
  }
}

TEST_P(TransformerParity, TheSameCallGivesTheSameBits) {
  const Transformer model = open(GetParam());
  const Inputs in = inputs_of(dump_, model.config());
  EXPECT_TRUE(at::equal(run(model, in), run(model, in)));
}

TEST_P(TransformerParity, EveryBlockIsOneJointCall) {
  const Transformer model = open(GetParam());
  const TransformerConfig& c = model.config();
  const testing::JointOnly backend;
  attention::Recorder recorder;
  attention::Site site;
  site.step = 3;
  site.steps = 7;
  site.branch = attention::Branch::Uncond;
  const Inputs in = inputs_of(dump_, c);
  EXPECT_TRUE(matches(model(in, {backend, recorder, site, {}}), dump_, "output", kBound));
  ASSERT_EQ(backend.seen.size(), size_t(c.blocks()));
  const int64_t text = in.text.size(1), image = in.tokens.size(1);
  for (int64_t i = 0; i < c.blocks(); ++i) {
    const testing::JointOnly::Seen& one = backend.seen[size_t(i)];
    const bool single = i >= c.layers;
    EXPECT_EQ(one.site.layer, i);
    EXPECT_EQ(one.site.call, i);
    EXPECT_EQ(one.site.layers, c.blocks());
    EXPECT_EQ(one.site.block, single ? "single" : "double");
    testing::JointOnly::expect_run(one, site);
    EXPECT_EQ(one.rows, single ? std::vector<int64_t>{text + image} : (std::vector<int64_t>{text, image}));
    // Single blocks: columns [0, D) of what the output projection reads.
    EXPECT_THAT(one.out_strides, ::testing::Each(single ? c.dim() + c.ff_dim() : c.dim()));
    EXPECT_EQ(one.q_norms.front() == one.q_norms.back(), single);
  }
  EXPECT_TRUE(backend.one_view);
  int64_t calls = 0;
  for (const auto& [name, served] : recorder.served()) calls += served.calls;
  EXPECT_EQ(calls, c.blocks());
}

TEST_P(TransformerParity, TheReferenceWritesToTheSamePlaces) {
  const Transformer model = open(GetParam());
  const at::Tensor output = run(model, inputs_of(dump_, model.config()), {}, "reference");
  EXPECT_TRUE(matches(output, dump_, "output", kBound));
}

TEST_P(TransformerParity, StopsBetweenBlocks) {
  const Transformer model = open(GetParam());
  const Inputs in = inputs_of(dump_, model.config());
  testing::expect_stop_after("block.0", model, in);
  if (model.config().single_layers > 1) testing::expect_stop_after("single.0", model, in);
}

TEST_P(TransformerParity, HalfPrecisionLosesNoMoreThanDiffusers) {
  testing::expect_half_precision_loses_no_more(dump_, [&](const Target& target) {
    const Transformer model = open(GetParam(), target);
    return run(model, inputs_of(dump_, model.config(), target));
  });
}

// t and guidance that bf16 cannot hold are rounded where diffusers rounds them: its own result is a hair's
// breadth away, and far from that of the inputs as they were.
TEST_P(TransformerParity, HalfPrecisionRoundsItsConditionsAlike) {
  const Target half{at::kCPU, at::kBFloat16};
  const auto temb_of = [&](Target target) {
    const Transformer model = open(GetParam(), target);
    Inputs in = inputs_of(dump_, model.config(), target);
    in.t = dump_["rounded.t"];
    if (model.config().guidance_embeds) in.guidance = dump_["rounded.guidance"];
    at::Tensor temb;
    run(model, in, [&](const std::string& name, const at::Tensor& value) {
      if (name == "temb") temb = value;
    });
    return temb;
  };
  EXPECT_LE(relative_l2(temb_of(half), dump_["bf16.temb"]), 2e-3);
  EXPECT_GE(relative_l2(temb_of({}), dump_["bf16.temb"]), 2e-2);
}

// What the constructor asks for on the meta device is what the file holds.
TEST_P(TransformerParity, NamesAndShapesOnMetaAreTheFiles) {
  EXPECT_EQ(testing::asked_for<Transformer>(config_of(GetParam())),
            testing::stored_in(folder_of(GetParam())));
}

TEST_P(TransformerParity, RandomWeightsRun) {
  const TransformerConfig config = config_of(GetParam());
  testing::expect_random_weights_run<Transformer>(
      config, dump_, [&](const Target& target) { return inputs_of(dump_, config, target); });
}

INSTANTIATE_TEST_SUITE_P(Fixtures, TransformerParity, ::testing::ValuesIn(kFixtureNames),
                         [](const auto& info) { return std::string(info.param); });

// The rows leave fp16's range and are clipped, as in diffusers: the text's after double blocks, both streams'
// after single ones.
TEST(FluxHalf, ClipsWhatItCannotHold) {
  const Dump dump = dump_of("loud");
  const Target half{at::kCPU, at::kHalf};
  const Transformer model = open("loud", half);
  std::map<std::string, at::Tensor> peaks;
  const at::Tensor output =
      run(model, inputs_of(dump, model.config(), half), [&](const auto& name, const auto& value) {
        if (value.dim() == 3) peaks[name] = value.abs().amax({0, 2}).to(at::kFloat);
      });
  const int64_t text = dump["text"].size(1);
  EXPECT_EQ(peaks.at("block.0").slice(0, 0, text).min().item<float>(), 65504);
  EXPECT_LT(peaks.at("block.0").slice(0, text).max().item<float>(), 1000);
  EXPECT_EQ(peaks.at("single.0").min().item<float>(), 65504);
  EXPECT_LE(relative_l2(output, dump["fp16.cpu"]), 5e-3);
}

TEST(FluxInputs, WrongShapesAreNamed) {
  const Dump dump = dump_of("dev");
  const Transformer model = open("dev");
  const Inputs right = inputs_of(dump, model.config());
  const auto message = [&](const std::function<void(Inputs&)>& spoil) {
    return testing::complaint(model, right, spoil);
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(message([](Inputs& in) { in.tokens = in.tokens.narrow(2, 0, 5); }),
              HasSubstr("tokens should be [B, N, 16], not [2, 21, 5]"));
  EXPECT_THAT(message([](Inputs& in) { in.text = in.text.narrow(0, 0, 1); }),
              HasSubstr("text should be [2, L, 32], not [1, 9, 32]"));
  EXPECT_THAT(message([](Inputs& in) { in.pooled = in.pooled.narrow(1, 0, 3); }),
              HasSubstr("pooled should be [2, 20], not [2, 3]"));
  EXPECT_THAT(message([](Inputs& in) { in.t = in.t.narrow(0, 0, 1); }),
              HasSubstr("t should be [2], not [1]"));
  EXPECT_THAT(message([](Inputs& in) { in.guidance = at::Tensor(); }), HasSubstr("guidance should be given"));
  EXPECT_THAT(message([](Inputs& in) { in.guidance = in.guidance.narrow(0, 0, 1); }),
              HasSubstr("guidance should be [2], not [1]"));
  EXPECT_THAT(message([](Inputs& in) { in.text = in.text.to(at::kHalf); }),
              HasSubstr("text is Half, tokens are Float"));
  EXPECT_THAT(message([](Inputs& in) { in.rope.cos = in.rope.cos.narrow(0, 0, 21); }),
              HasSubstr("rope should be rope_table's for 9 + 21 rows"));
  EXPECT_EQ(message([](Inputs&) {}), "nothing was thrown");
  const Transformer schnell = open("schnell");
  Inputs in = inputs_of(dump_of("schnell"), schnell.config());
  in.guidance = in.t;
  EXPECT_THROW(run(schnell, in), c10::Error);
}

TEST(FluxAttention, QuantizedAttentionIsNear) {
  const Dump dump = dump_of("default_axes");
  const Transformer model = open("default_axes");
  testing::expect_quantized_attention_is_near(model, inputs_of(dump, model.config()), dump);
}

int64_t parameters_of(const nlohmann::json& values) {
  Config file(values, "config.json");
  int64_t sum = 0;
  for (const auto& [name, shape] : testing::asked_for<Transformer>(TransformerConfig(file)))
    sum += c10::multiply_integers(shape);
  return sum;
}

TEST(FluxParameters, AreThoseOfTheReleasedModels) {
  EXPECT_EQ(parameters_of({{"guidance_embeds", true}}), 11'901'408'320);
  EXPECT_EQ(parameters_of(nlohmann::json::object()), 11'891'178'560);
}

// The released models at 1024 x 1024, from their shapes.
TEST(FluxFlops, AreThoseOfTheReleasedModels) {
  Config values(nlohmann::json::object(), "config.json");
  const TransformerConfig config(values);
  EXPECT_NEAR(flops(config, 4096, 512), 74.4e12, 0.1e12);
  EXPECT_NEAR(flops(config, 4096, 256), 69.5e12, 0.1e12);
}

}  // namespace
}  // namespace sagelab::flux
