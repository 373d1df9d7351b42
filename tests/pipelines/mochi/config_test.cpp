// SPDX-License-Identifier: Apache-2.0
#include "pipelines/mochi/config.h"

#include <gtest/gtest.h>

#include "tests/support/config_refusal.h"

namespace sagelab::mochi {
namespace {

using Json = nlohmann::json;

TransformerConfig parse(const Json& values) {
  return testing::parse<TransformerConfig>(values);
}

TEST(MochiConfig, ReadsEveryKey) {
  const TransformerConfig c = parse({{"_class_name", "MochiTransformer3DModel"},
                                     {"_diffusers_version", "0.32.0.dev0"},
                                     {"activation_fn", "swiglu"},
                                     {"attention_head_dim", 96},
                                     {"in_channels", 10},
                                     {"max_sequence_length", 77},
                                     {"num_attention_heads", 7},
                                     {"num_layers", 3},
                                     {"out_channels", 6},
                                     {"patch_size", 4},
                                     {"pooled_projection_dim", 500},
                                     {"qk_norm", "rms_norm"},
                                     {"text_embed_dim", 88},
                                     {"time_embed_dim", 64}});
  EXPECT_EQ(c.in_channels, 10);
  EXPECT_EQ(c.out_channels, 6);
  EXPECT_EQ(c.patch_size, 4);
  EXPECT_EQ(c.patch_area(), 16);
  EXPECT_EQ(c.layers, 3);
  EXPECT_EQ(c.heads, 7);
  EXPECT_EQ(c.head_dim, 96);
  EXPECT_EQ(c.dim(), 672);
  EXPECT_EQ(c.text_dim, 500);
  EXPECT_EQ(c.ff_dim(c.dim()), 1792);
  EXPECT_EQ(c.ff_dim(c.text_dim), 1333);
  EXPECT_EQ(c.text_embed_dim, 88);
  EXPECT_EQ(c.time_embed_dim, 64);
}

TEST(MochiConfig, DefaultsAreTheClassSignature) {
  const TransformerConfig c = parse(Json::object());
  EXPECT_EQ(c.in_channels, 12);
  EXPECT_EQ(c.out_channels, 12);
  EXPECT_EQ(c.patch_size, 2);
  EXPECT_EQ(c.layers, 48);
  EXPECT_EQ(c.heads, 24);
  EXPECT_EQ(c.head_dim, 128);
  EXPECT_EQ(c.text_dim, 1536);
  EXPECT_EQ(c.text_embed_dim, 4096);
  EXPECT_EQ(c.time_embed_dim, 256);
  EXPECT_EQ(parse({{"out_channels", nullptr}, {"in_channels", 8}}).out_channels, 8);
  EXPECT_EQ(parse({{"in_channels", 8}}).out_channels, 8);
}

TEST(MochiConfig, RefusesByName) {
  const std::string where = "folder/config.json: ";
  const auto message = [](const char* key, const Json& value) {
    return testing::refusal<TransformerConfig>(Json{{key, value}});
  };
  EXPECT_EQ(message("activation_fn", "geglu"),
            where + "activation_fn = \"geglu\" is not supported (only \"swiglu\")");
  EXPECT_EQ(message("qk_norm", "layer_norm"),
            where + "qk_norm = \"layer_norm\" is not supported (only \"rms_norm\")");
  EXPECT_EQ(message("attention_head_dim", 63), where + "attention_head_dim = 63 should be even, for RoPE");
  EXPECT_EQ(message("text_embed_dim", 100),
            where + "text_embed_dim = 100 should be a multiple of 8, the heads that pool the text");
  EXPECT_EQ(message("num_layers", 0), where + "num_layers = 0 should be at least 1");
  EXPECT_EQ(message("num_layers", 1001), where + "num_layers = 1001 should be at most 1000");
  EXPECT_EQ(message("patch_size_t", 1), where + "unknown key patch_size_t = 1");
}

}  // namespace
}  // namespace sagelab::mochi
