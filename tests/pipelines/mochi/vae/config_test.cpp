// SPDX-License-Identifier: Apache-2.0
#include "pipelines/mochi/vae/config.h"

#include <gtest/gtest.h>

#include "pipelines/mochi/vae/decoder.h"
#include "tests/support/config_refusal.h"

namespace sagelab::mochi {
namespace {

using Json = nlohmann::json;

VaeConfig parse(const Json& values) {
  return testing::parse<VaeConfig>(values, "vae/config.json");
}

Json released() {
  return {{"_class_name", "AutoencoderKLMochi"},
          {"_diffusers_version", "0.32.0.dev0"},
          {"act_fn", "silu"},
          {"add_attention_block", {false, true, true, true, true}},
          {"decoder_block_out_channels", {128, 256, 512, 768}},
          {"encoder_block_out_channels", {64, 128, 256, 384}},
          {"in_channels", 15},
          {"latent_channels", 12},
          {"latents_mean", std::vector<double>(12, 0.25)},
          {"latents_std", std::vector<double>(12, 0.5)},
          {"layers_per_block", {3, 3, 4, 6, 3}},
          {"out_channels", 3},
          {"scaling_factor", 1.0},
          {"spatial_expansions", {2, 2, 2}},
          {"temporal_expansions", {1, 2, 3}}};
}

TEST(MochiVaeConfig, ReadsTheReleasedKeys) {
  const VaeConfig c = parse(released());
  EXPECT_EQ(c.out_channels, 3);
  EXPECT_EQ(c.latent_channels, 12);
  EXPECT_EQ(c.block_out_channels, (std::vector<int64_t>{128, 256, 512, 768}));
  EXPECT_EQ(c.layers_per_block, (std::vector<int64_t>{3, 3, 4, 6, 3}));
  EXPECT_EQ(c.latents_mean, std::vector<double>(12, 0.25));
  EXPECT_EQ(c.latents_std, std::vector<double>(12, 0.5));
  EXPECT_EQ(c.activation, Activation::Silu);
  EXPECT_EQ(c.spatial_compression(), 8);
  EXPECT_EQ(c.temporal_compression(), 6);
}

TEST(MochiVaeConfig, DefaultsAreTheClassSignature) {
  const VaeConfig c = parse(Json::object());
  EXPECT_EQ(c.block_out_channels, (std::vector<int64_t>{128, 256, 512, 768}));
  EXPECT_EQ(c.layers_per_block, (std::vector<int64_t>{3, 3, 4, 6, 3}));
  EXPECT_EQ(c.temporal_expansions, (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(c.spatial_expansions, (std::vector<int64_t>{2, 2, 2}));
  ASSERT_EQ(c.latents_mean.size(), 12U);
  EXPECT_EQ(c.latents_mean[0], -0.06730895953510081);
  EXPECT_EQ(c.latents_mean[11], -0.0321993391887285);
  ASSERT_EQ(c.latents_std.size(), 12U);
  EXPECT_EQ(c.latents_std[7], 1.3720942357788521);
  EXPECT_EQ(c.scaling_factor, 1);
}

TEST(MochiVaeConfig, WithoutAMeanOrADeviationThereIsNeither) {
  for (const char* key : {"latents_mean", "latents_std"}) {
    Json values = released();
    values[key] = nullptr;
    EXPECT_TRUE(parse(values).latents_mean.empty()) << key;
    EXPECT_TRUE(parse(values).latents_std.empty()) << key;
  }
}

TEST(MochiVaeConfig, RefusesByName) {
  const std::string where = "vae/config.json: ";
  const auto message = [](const char* key, const Json& value) {
    Json values = released();
    values[key] = value;
    return testing::refusal<VaeConfig>(values, "vae/config.json");
  };
  EXPECT_EQ(message("act_fn", "swish"), "accepted");
  EXPECT_EQ(message("act_fn", "mish"),
            where + "act_fn = \"mish\" is not supported (only gelu, relu, silu, swish)");
  const std::string widths = where + "decoder_block_out_channels ";
  EXPECT_EQ(message("decoder_block_out_channels", Json::array()),
            widths + "has 0 entries, and should have 1 to 8");
  EXPECT_EQ(message("decoder_block_out_channels", {128, 256, 512, 760}),
            widths + "holds 760, which should be a multiple of 32 and at most 65536");
  EXPECT_EQ(message("decoder_block_out_channels", {0, 256, 512, 768}),
            widths + "holds 0, which should be a multiple of 32 and at most 65536");
  EXPECT_EQ(message("layers_per_block", {3, 3, 4, 6}),
            where + "layers_per_block has 4 entries, and decoder_block_out_channels asks for 5");
  EXPECT_EQ(message("layers_per_block", {3, 3, 4, 6, 0}),
            where + "layers_per_block holds 0, which should be 1 to 1000");
  EXPECT_EQ(message("temporal_expansions", {1, 2}),
            where + "temporal_expansions has 2 entries, and decoder_block_out_channels asks for 3");
  EXPECT_EQ(message("spatial_expansions", {2, 2, 17}),
            where + "spatial_expansions holds 17, which should be 1 to 16");
  EXPECT_EQ(message("latents_mean", {0.5}), where + "latents_mean has 1 entries, and latent_channels = 12");
  EXPECT_EQ(message("latent_channels", 16), where + "latents_mean has 12 entries, and latent_channels = 16");
  EXPECT_EQ(message("latents_std", "no").substr(0, where.size() + 11), where + "latents_std");
  EXPECT_EQ(message("scaling_factor", 0), where + "scaling_factor = 0 should be above 0");
  EXPECT_EQ(message("norm_eps", 1e-5), where + "unknown key norm_eps = 1e-05");
}

TEST(MochiVaeConfig, TilesAreDiffusers) {
  const VaeConfig c = parse(released());
  const TilePlan plan = tile_plan(c, {});
  for (const TileAxis& axis : {plan.rows, plan.columns}) {
    EXPECT_EQ(axis.tile, 32);
    EXPECT_EQ(axis.stride, 24);
    EXPECT_EQ(axis.blend, 64);
    EXPECT_EQ(axis.keep, 192);
    EXPECT_EQ(axis.output(60), 480);
    EXPECT_EQ(axis.output(106), 848);
  }
  EXPECT_FALSE(needs_tiles(plan, 32, 32));
  EXPECT_TRUE(needs_tiles(plan, 33, 32));
  EXPECT_TRUE(needs_tiles(plan, 32, 33));
}

TEST(MochiVaeConfig, TilesTooSmallToAdvanceAreAnError) {
  try {
    tile_plan(parse(released()), {16, 16, 8, 7});
    FAIL() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "VAE tiles at a stride of 8 x 7 pixels cannot advance: a latent has 8 x 8");
    EXPECT_EQ(e.hint(), "decode without tiling");
  }
}

}  // namespace
}  // namespace sagelab::mochi
