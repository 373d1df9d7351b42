// SPDX-License-Identifier: Apache-2.0
#include "pipelines/hunyuanvideo/config.h"

#include <gtest/gtest.h>

#include "tests/support/config_refusal.h"

namespace sagelab::hunyuanvideo {
namespace {

using Json = nlohmann::json;

TransformerConfig parse(const Json& values) {
  return testing::parse<TransformerConfig>(values);
}

std::string refusal(const Json& values) {
  return testing::refusal<TransformerConfig>(values);
}

TEST(HunyuanVideoConfig, ReadsEveryKey) {
  const TransformerConfig c = parse({{"_class_name", "HunyuanVideoTransformer3DModel"},
                                     {"_diffusers_version", "0.32.0.dev0"},
                                     {"attention_head_dim", 96},
                                     {"guidance_embeds", false},
                                     {"image_condition_type", nullptr},
                                     {"in_channels", 12},
                                     {"mlp_ratio", 4.0},
                                     {"num_attention_heads", 7},
                                     {"num_layers", 3},
                                     {"num_refiner_layers", 4},
                                     {"num_single_layers", 5},
                                     {"out_channels", 6},
                                     {"patch_size", 4},
                                     {"patch_size_t", 3},
                                     {"pooled_projection_dim", 77},
                                     {"qk_norm", "rms_norm"},
                                     {"rope_axes_dim", {16, 32, 48}},
                                     {"rope_theta", 300},
                                     {"text_embed_dim", 99}});
  EXPECT_EQ(c.in_channels, 12);
  EXPECT_EQ(c.out_channels, 6);
  EXPECT_EQ(c.dim(), 672);
  EXPECT_EQ(c.ff_dim(), 2688);
  EXPECT_EQ(c.refiner_layers, 4);
  EXPECT_EQ(c.layers, 3);
  EXPECT_EQ(c.single_layers, 5);
  EXPECT_EQ(c.blocks(), 12);
  EXPECT_EQ(c.patch_size, 4);
  EXPECT_EQ(c.patch_size_t, 3);
  EXPECT_EQ(c.patch_volume(), 48);
  EXPECT_EQ(c.pooled_projection_dim, 77);
  EXPECT_EQ(c.text_embed_dim, 99);
  EXPECT_EQ(c.rope_theta, 300);
  EXPECT_EQ(c.rope_dims, (std::array<int64_t, 3>{16, 32, 48}));
  EXPECT_FALSE(c.guidance_embeds);
}

TEST(HunyuanVideoConfig, DefaultsAreTheClassSignature) {
  const TransformerConfig c = parse(Json::object());
  EXPECT_EQ(c.in_channels, 16);
  EXPECT_EQ(c.out_channels, 16);
  EXPECT_EQ(c.refiner_layers, 2);
  EXPECT_EQ(c.layers, 20);
  EXPECT_EQ(c.single_layers, 40);
  EXPECT_EQ(c.heads, 24);
  EXPECT_EQ(c.head_dim, 128);
  EXPECT_EQ(c.patch_size, 2);
  EXPECT_EQ(c.patch_size_t, 1);
  EXPECT_EQ(c.text_embed_dim, 4096);
  EXPECT_EQ(c.pooled_projection_dim, 768);
  EXPECT_TRUE(c.guidance_embeds);
  EXPECT_EQ(c.rope_theta, 256);
  EXPECT_EQ(c.rope_dims, (std::array<int64_t, 3>{16, 56, 56}));
  EXPECT_EQ(parse({{"out_channels", nullptr}, {"in_channels", 8}}).out_channels, 8);
  EXPECT_EQ(parse({{"in_channels", 8}}).out_channels, 16);
}

TEST(HunyuanVideoConfig, RefusesByName) {
  const std::string where = "folder/config.json: ";
  const auto message = [](const char* key, const Json& value) { return refusal(Json{{key, value}}); };
  EXPECT_EQ(message("image_condition_type", "latent_concat"),
            where + "image_condition_type = \"latent_concat\" is not supported (only null)");
  EXPECT_EQ(message("image_condition_type", "token_replace"),
            where + "image_condition_type = \"token_replace\" is not supported (only null)");
  EXPECT_EQ(message("mlp_ratio", 2), where + "mlp_ratio = 2 is not supported (only 4)");
  EXPECT_EQ(message("qk_norm", "layer_norm"),
            where + "qk_norm = \"layer_norm\" is not supported (only \"rms_norm\")");
  EXPECT_EQ(message("qk_norm", nullptr), where + "qk_norm = null is not supported (only \"rms_norm\")");
  EXPECT_EQ(message("rope_theta", 0), where + "rope_theta = 0 should be above 0");
  EXPECT_EQ(message("rope_axes_dim", {16, 56, 54}),
            where + "rope_axes_dim = [16, 56, 54] should add up to attention_head_dim = 128");
  EXPECT_EQ(message("num_layers", 0), where + "num_layers = 0 should be at least 1");
  EXPECT_EQ(message("num_refiner_layers", 1001), where + "num_refiner_layers = 1001 should be at most 1000");
  EXPECT_EQ(message("guidance_embeds", 1), where + "guidance_embeds = 1 should be true or false");
  EXPECT_EQ(message("axes_dims_rope", {16, 56, 56}), where + "unknown key axes_dims_rope = [16,56,56]");
}

}  // namespace
}  // namespace sagelab::hunyuanvideo
