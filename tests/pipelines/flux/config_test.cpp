// SPDX-License-Identifier: Apache-2.0
#include "pipelines/flux/config.h"

#include <gtest/gtest.h>

#include "tests/support/config_refusal.h"

namespace sagelab::flux {
namespace {

using Json = nlohmann::json;

TransformerConfig parse(const Json& values) {
  return testing::parse<TransformerConfig>(values);
}

std::string refusal(const Json& values) {
  return testing::refusal<TransformerConfig>(values);
}

TEST(FluxConfig, ReadsTheReleasedKeys) {
  const TransformerConfig c = parse({{"_class_name", "FluxTransformer2DModel"},
                                     {"_diffusers_version", "0.30.0.dev0"},
                                     {"_name_or_path", "../checkpoints/flux-dev/transformer"},
                                     {"attention_head_dim", 128},
                                     {"guidance_embeds", true},
                                     {"in_channels", 64},
                                     {"joint_attention_dim", 4096},
                                     {"num_attention_heads", 24},
                                     {"num_layers", 19},
                                     {"num_single_layers", 38},
                                     {"patch_size", 1},
                                     {"pooled_projection_dim", 768}});
  EXPECT_EQ(c.in_channels, 64);
  EXPECT_EQ(c.out_channels, 64);
  EXPECT_EQ(c.dim(), 3072);
  EXPECT_EQ(c.ff_dim(), 12288);
  EXPECT_EQ(c.blocks(), 57);
  EXPECT_TRUE(c.guidance_embeds);
}

TEST(FluxConfig, DefaultsAreTheClassSignature) {
  const TransformerConfig c = parse(Json::object());
  EXPECT_EQ(c.in_channels, 64);
  EXPECT_EQ(c.out_channels, 64);
  EXPECT_EQ(c.layers, 19);
  EXPECT_EQ(c.single_layers, 38);
  EXPECT_EQ(c.heads, 24);
  EXPECT_EQ(c.head_dim, 128);
  EXPECT_EQ(c.joint_attention_dim, 4096);
  EXPECT_EQ(c.pooled_projection_dim, 768);
  EXPECT_FALSE(c.guidance_embeds);
  EXPECT_EQ(c.rope_dims, (std::array<int64_t, 3>{16, 56, 56}));
}

TEST(FluxConfig, OutChannelsAreInChannelsUnlessGiven) {
  EXPECT_EQ(parse({{"in_channels", 128}}).out_channels, 128);
  EXPECT_EQ(parse({{"in_channels", 128}, {"out_channels", nullptr}}).out_channels, 128);
  EXPECT_EQ(parse({{"in_channels", 128}, {"out_channels", 64}}).out_channels, 64);
}

TEST(FluxConfig, RefusesByName) {
  const std::string where = "folder/config.json: ";
  const auto message = [](const char* key, const Json& value) { return refusal(Json{{key, value}}); };
  EXPECT_EQ(message("patch_size", 2), where + "patch_size = 2 is not supported (only 1)");
  EXPECT_EQ(message("in_channels", 66),
            where + "in_channels = 66 should be a multiple of 4: a token is a 2 x 2 patch of latents");
  EXPECT_EQ(message("out_channels", 2),
            where + "out_channels = 2 should be a multiple of 4: a token is a 2 x 2 patch of latents");
  EXPECT_EQ(message("num_layers", 0), where + "num_layers = 0 should be at least 1");
  EXPECT_EQ(message("num_single_layers", 20'000), where + "num_single_layers = 20000 should be at most 1000");
  EXPECT_EQ(message("num_attention_heads", int64_t(1) << 61),
            where + "num_attention_heads = 2305843009213693952 should be at most 256");
  EXPECT_EQ(message("guidance_embeds", 1), where + "guidance_embeds = 1 should be true or false");
  EXPECT_EQ(message("qk_norm", "rms_norm"), where + "unknown key qk_norm = \"rms_norm\"");
}

TEST(FluxConfig, TheAxesShareAHead) {
  const std::string where = "folder/config.json: ";
  const auto message = [](const Json& axes) { return refusal(Json{{"axes_dims_rope", axes}}); };
  EXPECT_EQ(message({32, 48, 48}), "accepted");
  EXPECT_EQ(message({64, 64}), where + "axes_dims_rope = [64, 64] should have three entries");
  EXPECT_EQ(message({16, 56, 57}),
            where + "axes_dims_rope = [16, 56, 57] should hold even numbers from 2 to 1024");
  EXPECT_EQ(message({0, 64, 64}),
            where + "axes_dims_rope = [0, 64, 64] should hold even numbers from 2 to 1024");
  EXPECT_EQ(message({-16, 72, 72}),
            where + "axes_dims_rope = [-16, 72, 72] should hold even numbers from 2 to 1024");
  EXPECT_EQ(message({16, 56, 54}),
            where + "axes_dims_rope = [16, 56, 54] should add up to attention_head_dim = 128");
  EXPECT_EQ(refusal({{"attention_head_dim", 64}}),
            where + "axes_dims_rope = [16, 56, 56] should add up to attention_head_dim = 64");
}

}  // namespace
}  // namespace sagelab::flux
