// SPDX-License-Identifier: Apache-2.0
#include "pipelines/cogvideox/positions.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "attention/error.h"
#include "pipelines/cogvideox/transformer.h"
#include "tests/support/parity.h"

namespace sagelab::cogvideox {
namespace {

using sagelab::testing::Dump;
using sagelab::testing::fixture;
using Json = nlohmann::json;

TransformerConfig transformer_config(const Json& values) {
  Config config(values, "config.json");
  return TransformerConfig(config);
}

const Json kFiveB = {{"use_rotary_positional_embeddings", true}};
const Json kOneFivePositions = {{"use_rotary_positional_embeddings", true},
                                {"patch_size_t", 2},
                                {"sample_height", 300},
                                {"sample_width", 300}};

class RopeTable : public ::testing::TestWithParam<std::pair<const char*, Json>> {};

// The same operations in the same order on the same machine: the same bits.
TEST_P(RopeTable, IsDiffusersToTheBit) {
  const Dump dump(fixture("cogvideox_positions", "tables.safetensors"));
  const std::string key = std::string("rope.") + GetParam().first;
  const at::Tensor size = dump[key + ".size"];
  const auto at = [&](int i) { return size[i].item<int64_t>(); };
  const int64_t text = 226;
  const attention::Rope rope =
      rope_table(transformer_config(GetParam().second), {text, at(0), at(1), at(2)}, at::kCPU);
  EXPECT_EQ(rope.cos.scalar_type(), at::kFloat);
  ASSERT_EQ(rope.cos.size(0), text + dump[key + ".cos"].size(0));
  EXPECT_TRUE(at::equal(rope.cos.slice(0, text), dump[key + ".cos"]));
  EXPECT_TRUE(at::equal(rope.sin.slice(0, text), dump[key + ".sin"]));
  EXPECT_TRUE(at::equal(rope.cos.slice(0, 0, text), at::ones({text, 32})));
  EXPECT_TRUE(at::equal(rope.sin.slice(0, 0, text), at::zeros({text, 32})));
}

INSTANTIATE_TEST_SUITE_P(Sizes, RopeTable,
                         ::testing::Values(std::pair{"5b", kFiveB}, std::pair{"1.5", kOneFivePositions},
                                           std::pair{"tall", kFiveB}, std::pair{"wide", kFiveB},
                                           std::pair{"half_size", kFiveB}, std::pair{"half_crop", kFiveB},
                                           std::pair{"half_width", kFiveB}, std::pair{"one_patch", kFiveB},
                                           std::pair{"one_row", kOneFivePositions}),
                         [](const auto& info) {
                           std::string name = info.param.first;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return "of_" + name;
                         });

// The fixtures' own tables, whose configs differ.
TEST(RopeTables, OfThePipelineFixtures) {
  for (const char* name : {"5b", "1.5", "long_odd", "odd_config"}) {
    const Dump dump(fixture("cogvideox", name) / "dump.safetensors");
    Config file(fixture("cogvideox", name) / "model" / "transformer" / "config.json");
    const auto latents = dump["noise"].sizes();
    const attention::Rope rope =
        rope_table(TransformerConfig(file), {0, latents[1], latents[3], latents[4]}, at::kCPU);
    EXPECT_TRUE(at::equal(rope.cos.repeat_interleave(2, 1), dump["rope.cos"])) << name;
    EXPECT_TRUE(at::equal(rope.sin.repeat_interleave(2, 1), dump["rope.sin"])) << name;
  }
}

TEST(RopeTables, AreEmptyForTheSinCosModel) {
  EXPECT_TRUE(rope_table(transformer_config(Json::object()), {226, 13, 60, 90}, at::kCPU).empty());
}

void expect_sincos(const std::string& key, const TransformerConfig& config, int64_t text,
                   at::IntArrayRef size) {
  const Dump dump(fixture("cogvideox_positions", "tables.safetensors"));
  const at::Tensor rows = dump[key + ".rows"];
  for (const auto& [suffix, dtype] : {std::pair{".fp32", at::kFloat}, std::pair{".fp16", at::kHalf}}) {
    const at::Tensor table = sincos_table(config, {text, size[0], size[1], size[2]}, {at::kCPU, dtype});
    EXPECT_EQ(table.size(0), 1);
    EXPECT_TRUE(at::equal(table[0].index_select(0, rows), dump[key + suffix])) << key << suffix;
  }
}

TEST(SincosTable, IsDiffusersToTheBit) {
  expect_sincos("sincos.2b", transformer_config(Json::object()), 226, {13, 60, 90});
  expect_sincos("sincos.scaled",
                transformer_config({{"num_attention_heads", 4},
                                    {"attention_head_dim", 16},
                                    {"spatial_interpolation_scale", 1.3},
                                    {"temporal_interpolation_scale", 0.7}}),
                226, {5, 10, 14});
}

struct Refusal {
  Json config;
  Extent extent;
  std::string what, hint;
};

TEST(CheckPositions, RefusesWhatTheModelHasNoPositionsFor) {
  const Json learned = {{"use_rotary_positional_embeddings", true},
                        {"use_learned_positional_embeddings", true}};
  const Refusal refusals[] = {
      {kOneFivePositions,
       {226, 22, 302, 170},
       "this model has positions for 150 x 150 patches at most, not for 151 x 85 (height x width)",
       "ask for a smaller picture"},
      {learned,
       {226, 13, 60, 92},
       "this model has learned positions for latents of 60 x 90, not of 60 x 92 (height x width)",
       "ask for the model's own size"},
      {learned,
       {225, 13, 60, 90},
       "this model has positions for 226 text tokens, not for 225",
       "use max_sequence_length 226"},
      {Json::object(),
       {100, 13, 60, 90},
       "this model has positions for 226 text tokens, not for 100",
       "use max_sequence_length 226"},
  };
  for (const Refusal& refusal : refusals) {
    try {
      check_positions(transformer_config(refusal.config), refusal.extent);
      ADD_FAILURE() << "accepted: " << refusal.what;
    } catch (const Error& e) {
      EXPECT_EQ(e.what(), refusal.what);
      EXPECT_EQ(e.hint(), refusal.hint);
    }
  }
  EXPECT_NO_THROW(check_positions(transformer_config(kOneFivePositions), {10, 22, 300, 300}));
  EXPECT_NO_THROW(check_positions(transformer_config(kFiveB), {10, 13, 120, 160}));
  EXPECT_NO_THROW(check_positions(transformer_config(learned), {226, 5, 60, 90}));
}

}  // namespace
}  // namespace sagelab::cogvideox
