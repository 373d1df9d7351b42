// SPDX-License-Identifier: Apache-2.0
#include "pipelines/sd3/transformer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "attention/error.h"
#include "tests/pipelines/sd3/fixture.h"
#include "tests/support/joint_only.h"
#include "tests/support/transformer_habits.h"

namespace sagelab::sd3 {
namespace {

using testing::Dump;
using ::testing::HasSubstr;
using testing::matches;
using testing::relative_l2;

std::vector<int64_t> skip_of(const Dump& dump) {
  const at::Tensor skip = dump["skip"].to(at::kLong).contiguous();
  return {skip.const_data_ptr<int64_t>(), skip.const_data_ptr<int64_t>() + skip.numel()};
}

class TransformerParity : public ::testing::TestWithParam<const char*> {
 protected:
  const Dump dump_ = dump_of(GetParam());
};

TEST_P(TransformerParity, EveryStage) {
  const Transformer model = open(GetParam());
  std::vector<std::string> names = {"temb", "pos_embed", "context_embedder"};
  for (int64_t i = 0; i < model.config().layers; ++i) names.push_back(fmt::format("block.{}", i));
  testing::expect_stages(model, inputs_of(dump_), dump_, names);
}

TEST_P(TransformerParity, SkipsBlocks) {
  const Transformer model = open(GetParam());
  Inputs in = inputs_of(dump_);
  in.skip = skip_of(dump_);
  EXPECT_TRUE(matches(run(model, in), dump_, "skipped", kBound));
  EXPECT_GT(relative_l2(dump_["skipped"], dump_["output"]), 1e-3) << "skipping changes nothing here";
}

TEST_P(TransformerParity, ARowOfABatchAlone) {
  const Transformer model = open(GetParam());
  const Inputs in = inputs_of(dump_);
  const at::Tensor all = run(model, in);
  for (int64_t row = 0; row < all.size(0); ++row) {
    const auto one = [&](const at::Tensor& x) { return x.narrow(0, row, 1); };
    const Inputs single{one(in.latents), one(in.text), one(in.pooled), one(in.t)};
    EXPECT_LE(relative_l2(run(model, single), one(all)), kBound) << "row " << row;
  }
}

TEST_P(TransformerParity, EveryAttentionIsAJointCall) {
  const Transformer model = open(GetParam());
  const TransformerConfig& c = model.config();
  const testing::JointOnly backend;
  attention::Recorder recorder;
  attention::Site site;
  site.step = 3;
  site.steps = 7;
  site.branch = attention::Branch::SkipLayer;
  const Inputs in = inputs_of(dump_);
  EXPECT_TRUE(matches(model(in, {backend, recorder, site, {}}), dump_, "output", kBound));
  const int64_t text = in.text.size(1), image = dump_["pos_embed"].size(1);
  size_t at = 0;
  for (int64_t layer = 0; layer < c.layers; ++layer)
    for (const bool dual : {false, true}) {
      if (dual && !c.dual(layer)) continue;
      ASSERT_LT(at, backend.seen.size());
      const testing::JointOnly::Seen& one = backend.seen[at];
      EXPECT_EQ(one.site.call, int(at++));
      EXPECT_EQ(one.site.layer, layer);
      EXPECT_EQ(one.site.layers, c.layers);
      EXPECT_EQ(one.site.block, dual ? "dual" : "joint");
      testing::JointOnly::expect_run(one, site);
      EXPECT_EQ(one.rows, dual ? std::vector<int64_t>{image} : (std::vector<int64_t>{image, text}));
      EXPECT_EQ(one.out_strides.back() > 0, dual || layer < c.layers - 1) << "text has queries";
    }
  EXPECT_EQ(at, backend.seen.size());
  EXPECT_TRUE(backend.one_view);
}

TEST_P(TransformerParity, TheReferenceWritesToTheSamePlaces) {
  const Transformer model = open(GetParam());
  EXPECT_TRUE(matches(run(model, inputs_of(dump_), {}, "reference"), dump_, "output", kBound));
}

TEST_P(TransformerParity, StopsBetweenBlocks) {
  testing::expect_stop_after("block.0", open(GetParam()), inputs_of(dump_));
}

// Against the fp32 truth, half precision loses no more here than in diffusers on the same device.
TEST_P(TransformerParity, HalfPrecisionLosesNoMoreThanDiffusers) {
  for (const auto& [key, dtype] : {std::pair{"bf16.cpu", at::kBFloat16}, {"fp16.cpu", at::kHalf}}) {
    const Target target{at::kCPU, dtype};
    const at::Tensor output = run(open(GetParam(), target), inputs_of(dump_, target));
    EXPECT_EQ(output.scalar_type(), dtype);
    testing::expect_no_more_loss(output, dump_, key);
  }
}

// What the constructor asks for on the meta device is what the file holds.
TEST_P(TransformerParity, NamesAndShapesOnMetaAreTheFiles) {
  EXPECT_EQ(testing::asked_for<Transformer>(config_of(GetParam())),
            testing::stored_in(folder_of(GetParam())));
}

// Ours stays within the bound of diffusers' own result, and outside it of every result that diffusers gives
// with one thing wrong (tests/oracle/sd3/mutants.py).
TEST_P(TransformerParity, EveryMutantFails) {
  const Dump mutants(testing::fixture("sd3", GetParam()) / "mutants.safetensors");
  static const std::map<std::string, size_t> kLeast = {
      {"sd3", 140}, {"large", 164}, {"medium", 242}, {"odd_config", 127}, {"wide_heads", 127}};
  EXPECT_GE(mutants.tensors().size(), kLeast.at(GetParam())) << "a list that shrinks must be noticed";
  const at::Tensor output = run(open(GetParam()), inputs_of(dump_));
  const double allowed = testing::tolerance(dump_, "output", kBound);
  EXPECT_LE(relative_l2(output, dump_["output"]), allowed);
  for (const auto& [label, wrong] : mutants.tensors())
    EXPECT_GT(relative_l2(output, wrong), 2 * allowed) << label << " is within reach of the bound";
}

TEST_P(TransformerParity, RandomWeightsRun) {
  testing::expect_random_weights_run<Transformer>(
      config_of(GetParam()), dump_, [&](const Target& target) { return inputs_of(dump_, target); });
}

INSTANTIATE_TEST_SUITE_P(Sd3, TransformerParity, ::testing::ValuesIn(kFixtureNames),
                         [](const auto& info) { return std::string(info.param); });

TEST(Sd3Attention, QuantizedAttentionIsNear) {
  const Dump dump = dump_of("wide_heads");
  testing::expect_quantized_attention_is_near(open("wide_heads"), inputs_of(dump), dump);
}

TransformerConfig released(nlohmann::json values) {
  values["qk_norm"] = "rms_norm";
  Config file(values, "config.json");
  return TransformerConfig(file);
}

TransformerConfig large() {
  return released({{"num_layers", 38},
                   {"num_attention_heads", 38},
                   {"caption_projection_dim", 2432},
                   {"pos_embed_max_size", 192}});
}

TransformerConfig medium() {
  return released({{"num_layers", 24},
                   {"num_attention_heads", 24},
                   {"caption_projection_dim", 1536},
                   {"pos_embed_max_size", 384},
                   {"dual_attention_layers", {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}});
}

int64_t parameters_of(const TransformerConfig& config) {
  int64_t sum = 0;
  for (const auto& [name, shape] : testing::asked_for<Transformer>(config))
    if (name != "pos_embed.pos_embed") sum += c10::multiply_integers(shape);
  return sum;
}

TEST(Sd3Parameters, AreThoseOfTheReleasedModels) {
  EXPECT_EQ(parameters_of(large()), 8'056'627'520);
  EXPECT_EQ(parameters_of(medium()), 2'243'171'520);
}

// At 1024 x 1024, of 77 + 256 text tokens.
TEST(Sd3Flops, AreThoseOfTheReleasedModels) {
  EXPECT_NEAR(flops(large(), 4096, 333), 31.1e12, 0.1e12);
  EXPECT_NEAR(flops(medium(), 4096, 333), 11.2e12, 0.1e12);
}

TEST(Sd3Config, RefusesByName) {
  const auto message = [](const nlohmann::json& values) {
    try {
      Config file(values, "config.json");
      const TransformerConfig config(file);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("nothing was thrown");
  };
  EXPECT_EQ(message(nlohmann::json::object()), "nothing was thrown");
  EXPECT_THAT(message({{"qk_norm", "layer_norm"}}), HasSubstr("qk_norm = \"layer_norm\" is not supported"));
  EXPECT_THAT(message({{"caption_projection_dim", 1536}}), HasSubstr("caption_projection_dim = 1536 should"));
  EXPECT_THAT(message({{"patch_size", 0}}), HasSubstr("patch_size"));
  EXPECT_THAT(message({{"mystery", 1}}), HasSubstr("mystery"));
}

TEST(Sd3Config, NullIsNotAbsent) {
  const auto parse = [](const nlohmann::json& values) {
    Config file(values, "config.json");
    return TransformerConfig(file);
  };
  EXPECT_EQ(parse({{"in_channels", 4}}).out_channels, 16);
  EXPECT_EQ(parse({{"in_channels", 4}, {"out_channels", nullptr}}).out_channels, 4);
  EXPECT_EQ(parse(nlohmann::json::object()).pos_embed_max_size, 96);
  EXPECT_FALSE(parse({{"qk_norm", nullptr}}).qk_norm);
  EXPECT_TRUE(parse({{"dual_attention_layers", nullptr}}).dual_attention_layers.empty());
  try {
    parse({{"pos_embed_max_size", nullptr}});
    ADD_FAILURE() << "accepted";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "config.json: pos_embed_max_size = null is not supported (only a size)");
  }
}

TEST(Sd3Inputs, WrongShapesAreNamed) {
  const Dump dump = dump_of("large");
  const Transformer model = open("large");
  const auto message = [&](const std::function<void(Inputs&)>& spoil) {
    return testing::complaint(model, inputs_of(dump), spoil);
  };
  EXPECT_THAT(message([](Inputs& in) { in.latents = in.latents.narrow(1, 0, 5); }),
              HasSubstr("latents should be [B, 16, h, w], not [2, 5, 6, 14]"));
  EXPECT_THAT(message([](Inputs& in) { in.latents = in.latents.narrow(3, 0, 13); }),
              HasSubstr("multiples of 2 up to 24, not 13"));
  EXPECT_THAT(message([](Inputs& in) { in.latents = at::zeros({2, 16, 26, 2}); }), HasSubstr("not 26"));
  EXPECT_THAT(message([](Inputs& in) { in.text = in.text.narrow(0, 0, 1); }),
              HasSubstr("text should be [2, L, 32], not [1, 9, 32]"));
  EXPECT_THAT(message([](Inputs& in) { in.pooled = in.pooled.narrow(1, 0, 3); }),
              HasSubstr("pooled should be [2, 20], not [2, 3]"));
  EXPECT_THAT(message([](Inputs& in) { in.t = in.t.narrow(0, 0, 1); }),
              HasSubstr("t should be [2], not [1]"));
  EXPECT_THAT(message([](Inputs& in) { in.text = in.text.to(at::kHalf); }),
              HasSubstr("text is Half, latents are Float"));
  EXPECT_EQ(message([](Inputs&) {}), "nothing was thrown");
}

}  // namespace
}  // namespace sagelab::sd3
