// SPDX-License-Identifier: Apache-2.0
#include "pipelines/hunyuanvideo/config.h"

#include <fmt/format.h>

#include "attention/error.h"
#include "pipelines/common/joint/grid_rope.h"

namespace sagelab::hunyuanvideo {
namespace {

// Far beyond any model; products of a few of them fit 64 bits.
constexpr int64_t kMostHeads = 256, kMostHeadDim = 1024, kMostLayers = 1000, kMostWidth = 65536;
constexpr int64_t kMostPatch = 64;

}  // namespace

TransformerConfig::TransformerConfig(Config& config) {
  config.only("image_condition_type", nullptr);  // others are models that go on from an image
  config.only("mlp_ratio", 4);
  if (config.is_null("qk_norm"))
    throw Error(fmt::format("{}: qk_norm = null is not supported (only \"rms_norm\")", config.where()));
  config.only("qk_norm", "rms_norm");
  in_channels = config.size("in_channels", in_channels, kMostWidth);
  out_channels =
      config.size("out_channels", config.is_null("out_channels") ? in_channels : out_channels, kMostWidth);
  patch_size = config.size("patch_size", patch_size, kMostPatch);
  patch_size_t = config.size("patch_size_t", patch_size_t, kMostPatch);
  refiner_layers = config.size("num_refiner_layers", refiner_layers, kMostLayers);
  layers = config.size("num_layers", layers, kMostLayers);
  single_layers = config.size("num_single_layers", single_layers, kMostLayers);
  head_dim = config.size("attention_head_dim", head_dim, kMostHeadDim);
  heads = config.size("num_attention_heads", heads, kMostHeads);
  text_embed_dim = config.size("text_embed_dim", text_embed_dim, kMostWidth);
  pooled_projection_dim = config.size("pooled_projection_dim", pooled_projection_dim, kMostWidth);
  guidance_embeds = config.boolean("guidance_embeds", guidance_embeds);
  rope_theta = config.number("rope_theta", rope_theta);
  if (rope_theta <= 0)
    throw Error(fmt::format("{}: rope_theta = {} should be above 0", config.where(), rope_theta));
  rope_dims = rope_dims_of(config, "rope_axes_dim", rope_dims, head_dim);
  config.require_all_read();
}

}  // namespace sagelab::hunyuanvideo
