// SPDX-License-Identifier: Apache-2.0
#include "pipelines/cogvideox/config.h"

#include <gtest/gtest.h>

#include "tests/support/config_refusal.h"

namespace sagelab::cogvideox {
namespace {

using Json = nlohmann::json;

using testing::parse;
using testing::refusal;

const Json kOneFive = {{"_class_name", "CogVideoXTransformer3DModel"},
                       {"_diffusers_version", "0.32.0.dev0"},
                       {"activation_fn", "gelu-approximate"},
                       {"attention_bias", true},
                       {"attention_head_dim", 64},
                       {"dropout", 0.0},
                       {"flip_sin_to_cos", true},
                       {"freq_shift", 0},
                       {"in_channels", 16},
                       {"max_text_seq_length", 226},
                       {"norm_elementwise_affine", true},
                       {"norm_eps", 1e-05},
                       {"num_attention_heads", 48},
                       {"num_layers", 42},
                       {"ofs_embed_dim", nullptr},
                       {"out_channels", 16},
                       {"patch_bias", false},
                       {"patch_size", 2},
                       {"patch_size_t", 2},
                       {"sample_frames", 81},
                       {"sample_height", 300},
                       {"sample_width", 300},
                       {"spatial_interpolation_scale", 1.875},
                       {"temporal_compression_ratio", 4},
                       {"temporal_interpolation_scale", 1.0},
                       {"text_embed_dim", 4096},
                       {"time_embed_dim", 512},
                       {"timestep_activation_fn", "silu"},
                       {"use_learned_positional_embeddings", false},
                       {"use_rotary_positional_embeddings", true}};

TEST(TransformerConfigTest, ReadsTheReleasedKeys) {
  const auto c = parse<TransformerConfig>(kOneFive);
  EXPECT_EQ(c.heads, 48);
  EXPECT_EQ(c.head_dim, 64);
  EXPECT_EQ(c.dim(), 3072);
  EXPECT_EQ(c.ff_dim(), 12288);
  EXPECT_EQ(c.layers, 42);
  EXPECT_EQ(c.patch_size_t, 2);
  EXPECT_EQ(c.temporal_patch(), 2);
  EXPECT_FALSE(c.patch_bias);
  EXPECT_EQ(c.sample_height, 300);
  EXPECT_EQ(c.sample_width, 300);
  EXPECT_EQ(c.sample_frames, 81);
  EXPECT_TRUE(c.rotary);
  EXPECT_FALSE(c.learned_positions);
  EXPECT_EQ(c.activation, Activation::GeluTanh);
  EXPECT_FALSE(c.gated_ff);
}

TEST(TransformerConfigTest, DefaultsAreTheClassSignatures) {
  const auto c = parse<TransformerConfig>(Json::object());
  EXPECT_EQ(c.heads, 30);
  EXPECT_EQ(c.layers, 30);
  EXPECT_EQ(c.patch_size_t, 0);
  EXPECT_EQ(c.temporal_patch(), 1);
  EXPECT_FALSE(c.rotary);
  EXPECT_EQ(c.spatial_interpolation_scale, 1.875);
  EXPECT_EQ(c.max_text_seq_length, 226);
  EXPECT_EQ(c.norm_eps, 1e-5);
}

TEST(TransformerConfigTest, ActivationsFixTheFeedForward) {
  const auto ff = [](const char* name) { return parse<TransformerConfig>({{"activation_fn", name}}); };
  EXPECT_EQ(ff("gelu").activation, Activation::Gelu);
  EXPECT_EQ(ff("geglu").activation, Activation::Gelu);
  EXPECT_TRUE(ff("geglu").gated_ff);
  EXPECT_EQ(ff("geglu-approximate").activation, Activation::QuickGelu);
  EXPECT_FALSE(ff("geglu-approximate").gated_ff);
  EXPECT_TRUE(ff("swiglu").gated_ff);
  EXPECT_EQ(ff("linear-silu").activation, Activation::Silu);
}

TEST(TransformerConfigTest, RefusesByName) {
  const auto message = [](const char* key, const Json& value) {
    return refusal<TransformerConfig>(Json{{key, value}});
  };
  EXPECT_EQ(message("ofs_embed_dim", 512),
            "folder/config.json: ofs_embed_dim = 512 is not supported (only null)");
  EXPECT_EQ(
      message("activation_fn", "gegelu"),
      "folder/config.json: activation_fn = \"gegelu\" is not supported (only geglu, geglu-approximate, gelu, "
      "gelu-approximate, linear-silu, swiglu)");
  EXPECT_EQ(message("timestep_activation_fn", "mish"),
            "folder/config.json: timestep_activation_fn = \"mish\" is not supported (only gelu, relu, silu, "
            "swish)");
  EXPECT_EQ(message("num_layers", 0), "folder/config.json: num_layers = 0 should be at least 1");
  EXPECT_EQ(message("num_layers", 20'000'000),
            "folder/config.json: num_layers = 20000000 should be at most 1000");
  EXPECT_EQ(message("patch_size", int64_t(1) << 61),
            "folder/config.json: patch_size = 2305843009213693952 should be at most 64");
  EXPECT_EQ(message("attention_head_dim", int64_t(1) << 62),
            "folder/config.json: attention_head_dim = 4611686018427387904 should be at most 1024");
  EXPECT_EQ(message("patch_size_t", 0), "folder/config.json: patch_size_t = 0 should be at least 1");
  EXPECT_EQ(message("norm_eps", -1), "folder/config.json: norm_eps = -1 should be above 0");
  EXPECT_EQ(
      refusal<TransformerConfig>({{"num_attention_heads", 3}, {"attention_head_dim", 8}}),
      "folder/config.json: num_attention_heads * attention_head_dim = 24 should be a multiple of 16 for its "
      "positions");
  EXPECT_EQ(
      refusal<TransformerConfig>({{"attention_head_dim", 24}, {"use_rotary_positional_embeddings", true}}),
      "folder/config.json: attention_head_dim = 24 should be a multiple of 16 for its positions");
  EXPECT_EQ(message("attention_bias", 1), "folder/config.json: attention_bias = 1 should be true or false");
  EXPECT_EQ(message("qk_norm", true), "folder/config.json: unknown key qk_norm = true");
  EXPECT_EQ(message("use_learned_positional_embeddings", true),
            "folder/config.json: use_learned_positional_embeddings = true is not supported (only with "
            "use_rotary_positional_embeddings = true)");
  EXPECT_EQ(
      message("patch_size_t", 2),
      "folder/config.json: patch_size_t = 2 is not supported (only with use_rotary_positional_embeddings = "
      "true and use_learned_positional_embeddings = false)");
}

const Json kVae = {{"_class_name", "AutoencoderKLCogVideoX"},
                   {"_diffusers_version", "0.32.0.dev0"},
                   {"act_fn", "silu"},
                   {"block_out_channels", {128, 256, 256, 512}},
                   {"down_block_types", std::vector<std::string>(4, "CogVideoXDownBlock3D")},
                   {"force_upcast", true},
                   {"in_channels", 3},
                   {"invert_scale_latents", true},
                   {"latent_channels", 16},
                   {"latents_mean", nullptr},
                   {"latents_std", nullptr},
                   {"layers_per_block", 3},
                   {"norm_eps", 1e-06},
                   {"norm_num_groups", 32},
                   {"out_channels", 3},
                   {"sample_height", 480},
                   {"sample_width", 720},
                   {"scaling_factor", 0.7},
                   {"shift_factor", nullptr},
                   {"temporal_compression_ratio", 4},
                   {"up_block_types", std::vector<std::string>(4, "CogVideoXUpBlock3D")},
                   {"use_post_quant_conv", false},
                   {"use_quant_conv", false}};

TEST(VaeConfigTest, ReadsTheReleasedKeys) {
  const auto c = parse<VaeConfig>(kVae);
  EXPECT_EQ(c.block_out_channels, (std::vector<int64_t>{128, 256, 256, 512}));
  EXPECT_EQ(c.scaling_factor, 0.7);
  EXPECT_EQ(c.spatial_compression(), 8);
  EXPECT_EQ(c.temporal_compression_ratio, 4);
  EXPECT_EQ(c.activation, Activation::Silu);
}

TEST(VaeConfigTest, DefaultsAreTheClassSignatures) {
  const auto c = parse<VaeConfig>(Json::object());
  EXPECT_EQ(c.layers_per_block, 3);
  EXPECT_EQ(c.norm_num_groups, 32);
  EXPECT_EQ(c.scaling_factor, 1.15258426);
  EXPECT_EQ(c.sample_width, 720);
  EXPECT_EQ(c.norm_eps, 1e-6);
  EXPECT_EQ(parse<VaeConfig>({{"temporal_compression_ratio", 2.0}}).temporal_compression_ratio, 2);
}

TEST(VaeConfigTest, RefusesByName) {
  const auto message = [](const char* key, const Json& value) {
    return refusal<VaeConfig>(Json{{key, value}});
  };
  const std::string where = "folder/config.json: ";
  EXPECT_EQ(message("use_quant_conv", true), where + "use_quant_conv = true is not supported (only false)");
  EXPECT_EQ(message("use_post_quant_conv", true),
            where + "use_post_quant_conv = true is not supported (only false)");
  EXPECT_EQ(message("shift_factor", 0.1), where + "shift_factor = 0.1 is not supported (only null)");
  EXPECT_EQ(message("latents_mean", {0.5}), where + "latents_mean = [0.5] is not supported (only null)");
  EXPECT_EQ(message("latents_std", {0.5}), where + "latents_std = [0.5] is not supported (only null)");
  EXPECT_EQ(message("act_fn", "mish"),
            where + "act_fn = \"mish\" is not supported (only gelu, relu, silu, swish)");
  EXPECT_EQ(message("up_block_types", {"CogVideoXUpBlock3D"}),
            where +
                "up_block_types is not supported (only 4 times \"CogVideoXUpBlock3D\", one for each of "
                "block_out_channels)");
  EXPECT_EQ(message("down_block_types", {"DownEncoderBlock2D"}),
            where +
                "down_block_types is not supported (only 4 times \"CogVideoXDownBlock3D\", one for each of "
                "block_out_channels)");
  EXPECT_EQ(message("layers_per_block", 100'000'000),
            where + "layers_per_block = 100000000 should be at most 1000");
  EXPECT_EQ(message("latent_channels", int64_t(9e18)),
            where + "latent_channels = 9000000000000000000 should be at most 65536");
  EXPECT_EQ(message("block_out_channels", std::vector<int64_t>(70, 32)),
            where + "block_out_channels has 70 entries, and should have at most 8");
  EXPECT_EQ(message("block_out_channels", {int64_t(1) << 62}),
            where + "block_out_channels holds 4611686018427387904, which should be at most 65536");
  EXPECT_EQ(message("temporal_compression_ratio", 3),
            where + "temporal_compression_ratio = 3 should be a power of two");
  EXPECT_EQ(message("norm_num_groups", 48),
            where + "block_out_channels holds 128, which is not a multiple of norm_num_groups = 48");
  EXPECT_EQ(message("block_out_channels", Json::array()),
            where + "block_out_channels = [] should not be empty");
  EXPECT_EQ(message("mid_block_type", "x"), where + "unknown key mid_block_type = \"x\"");
}

}  // namespace
}  // namespace sagelab::cogvideox
