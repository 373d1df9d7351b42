// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "attention/error.h"
#include "pipelines/image/autoencoder_kl.h"
#include "tests/support/config_refusal.h"

namespace sagelab {
namespace {

using Json = nlohmann::json;

AutoencoderKLConfig parse(const Json& values) {
  return testing::parse<AutoencoderKLConfig>(values, "vae/config.json");
}

std::string refusal(const Json& values) {
  return testing::refusal<AutoencoderKLConfig>(values, "vae/config.json");
}

Json released() {
  return {{"_class_name", "AutoencoderKL"},
          {"_diffusers_version", "0.30.0.dev0"},
          {"_name_or_path", "../checkpoints/flux-dev"},
          {"act_fn", "silu"},
          {"block_out_channels", {128, 256, 512, 512}},
          {"down_block_types", std::vector<std::string>(4, "DownEncoderBlock2D")},
          {"force_upcast", true},
          {"in_channels", 3},
          {"latent_channels", 16},
          {"latents_mean", nullptr},
          {"latents_std", nullptr},
          {"layers_per_block", 2},
          {"mid_block_add_attention", true},
          {"norm_num_groups", 32},
          {"out_channels", 3},
          {"sample_size", 1024},
          {"scaling_factor", 0.3611},
          {"shift_factor", 0.1159},
          {"up_block_types", std::vector<std::string>(4, "UpDecoderBlock2D")},
          {"use_post_quant_conv", false},
          {"use_quant_conv", false}};
}

TEST(AutoencoderKLConfig, ReadsTheReleasedKeys) {
  const AutoencoderKLConfig c = parse(released());
  EXPECT_EQ(c.out_channels, 3);
  EXPECT_EQ(c.latent_channels, 16);
  EXPECT_EQ(c.block_out_channels, (std::vector<int64_t>{128, 256, 512, 512}));
  EXPECT_EQ(c.layers_per_block, 2);
  EXPECT_EQ(c.norm_num_groups, 32);
  EXPECT_EQ(c.sample_size, 1024);
  EXPECT_EQ(c.scaling_factor, 0.3611);
  EXPECT_EQ(c.shift_factor, 0.1159);
  EXPECT_FALSE(c.use_post_quant_conv);
  EXPECT_TRUE(c.mid_block_add_attention);
  EXPECT_EQ(c.spatial_compression(), 8);
}

TEST(AutoencoderKLConfig, DefaultsAreTheClassSignature) {
  const AutoencoderKLConfig c = parse(Json::object());
  EXPECT_EQ(c.out_channels, 3);
  EXPECT_EQ(c.latent_channels, 4);
  EXPECT_EQ(c.block_out_channels, std::vector<int64_t>{64});
  EXPECT_EQ(c.layers_per_block, 1);
  EXPECT_EQ(c.norm_num_groups, 32);
  EXPECT_EQ(c.sample_size, 32);
  EXPECT_EQ(c.scaling_factor, 0.18215);
  EXPECT_FALSE(c.shift_factor);
  EXPECT_TRUE(c.use_post_quant_conv);
  EXPECT_TRUE(c.mid_block_add_attention);
  EXPECT_EQ(c.activation, Activation::Silu);
}

TEST(AutoencoderKLConfig, RefusesByName) {
  const std::string where = "vae/config.json: ";
  const auto message = [](const char* key, const Json& value) {
    Json values = released();
    values[key] = value;
    return refusal(values);
  };
  EXPECT_EQ(message("act_fn", "swish"), "accepted");
  EXPECT_EQ(message("act_fn", "mish"),
            where + "act_fn = \"mish\" is not supported (only gelu, relu, silu, swish)");
  EXPECT_EQ(message("block_out_channels", {128, 250}),
            where + "block_out_channels holds 250, which is not a multiple of norm_num_groups = 32");
  EXPECT_EQ(message("block_out_channels", Json::array()),
            where + "block_out_channels has 0 entries, and should have 1 to 8");
  EXPECT_EQ(message("block_out_channels", {int64_t(1) << 40}),
            where + "block_out_channels holds 1099511627776, which should be at most 65536");
  const std::string types =
      "up_block_types is not supported (only 4 times \"UpDecoderBlock2D\", one for each of "
      "block_out_channels)";
  EXPECT_EQ(message("up_block_types", std::vector<std::string>(3, "UpDecoderBlock2D")), where + types);
  EXPECT_EQ(message("up_block_types", std::vector<std::string>(4, "AttnUpDecoderBlock2D")), where + types);
  EXPECT_EQ(message("up_block_types", nullptr), where + types);
  EXPECT_EQ(message("scaling_factor", 0), where + "scaling_factor = 0 should be above 0");
  EXPECT_EQ(message("shift_factor", "no"), where + "shift_factor = \"no\" should be a number");
  EXPECT_EQ(message("sample_size", 0), where + "sample_size = 0 should be at least 1");
  EXPECT_EQ(message("layers_per_block", 2000), where + "layers_per_block = 2000 should be at most 1000");
  EXPECT_EQ(message("latents_mean", {0.5}), where + "latents_mean = [0.5] is not supported (only null)");
  EXPECT_EQ(message("latents_std", {0.5}), where + "latents_std = [0.5] is not supported (only null)");
  EXPECT_EQ(message("norm_eps", 1e-5), where + "unknown key norm_eps = 1e-05");
  EXPECT_NE(message("sample_size", {512, 512}), "accepted");
}

TEST(AutoencoderKLConfig, TileConstantsOfTheReleasedCheckpoints) {
  const AutoencoderKLConfig c = parse(released());
  const TileAxis axis = c.tile_axis();
  EXPECT_EQ(axis.tile, 128);
  EXPECT_EQ(axis.stride, 96);
  EXPECT_EQ(axis.blend, 256);
  EXPECT_EQ(axis.keep, 768);
  EXPECT_EQ(axis.output(256), 2048);
  EXPECT_FALSE(c.needs_tiles(128, 128));
  EXPECT_TRUE(c.needs_tiles(129, 128));
  EXPECT_TRUE(c.needs_tiles(128, 129));
}

TEST(AutoencoderKLConfig, TilesTooSmallToAdvanceAreAnError) {
  Json values = released();
  values["sample_size"] = 15;
  try {
    parse(values).tile_axis();
    FAIL() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "VAE tiles of 1 latents (sample_size 15 over 8) are too small to overlap");
    EXPECT_EQ(e.hint(), "decode without tiling");
  }
}

}  // namespace
}  // namespace sagelab
