// SPDX-License-Identifier: Apache-2.0
#include "pipelines/flux/config.h"

#include <fmt/format.h>

#include "attention/error.h"
#include "pipelines/common/joint/grid_rope.h"

namespace sagelab::flux {
namespace {

// Far beyond any model; products of a few of them fit 64 bits.
constexpr int64_t kMostHeads = 256, kMostHeadDim = 1024, kMostLayers = 1000, kMostWidth = 65536;

int64_t patch_channels(Config& config, const std::string& key, int64_t fallback) {
  const int64_t channels = config.size(key, fallback, kMostWidth);
  if (channels % 4)
    throw Error(fmt::format("{}: {} = {} should be a multiple of 4: a token is a 2 x 2 patch of latents",
                            config.where(), key, channels));
  return channels;
}

}  // namespace

TransformerConfig::TransformerConfig(Config& config) {
  config.only("patch_size", 1);
  in_channels = patch_channels(config, "in_channels", in_channels);
  out_channels = patch_channels(config, "out_channels", in_channels);
  layers = config.size("num_layers", layers, kMostLayers);
  single_layers = config.size("num_single_layers", single_layers, kMostLayers);
  head_dim = config.size("attention_head_dim", head_dim, kMostHeadDim);
  heads = config.size("num_attention_heads", heads, kMostHeads);
  joint_attention_dim = config.size("joint_attention_dim", joint_attention_dim, kMostWidth);
  pooled_projection_dim = config.size("pooled_projection_dim", pooled_projection_dim, kMostWidth);
  guidance_embeds = config.boolean("guidance_embeds", guidance_embeds);
  rope_dims = rope_dims_of(config, "axes_dims_rope", rope_dims, head_dim);
  config.require_all_read();
}

}  // namespace sagelab::flux
