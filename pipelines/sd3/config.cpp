// SPDX-License-Identifier: Apache-2.0
#include "pipelines/sd3/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "attention/error.h"

namespace sagelab::sd3 {
namespace {

// Far beyond any model; products of a few of them fit 64 bits.
constexpr int64_t kMostHeads = 256, kMostHeadDim = 1024, kMostLayers = 1000, kMostWidth = 65536;
constexpr int64_t kMostPatch = 64, kMostGrid = 4096;

}  // namespace

TransformerConfig::TransformerConfig(Config& config) {
  sample_size = config.size("sample_size", sample_size, kMostGrid);
  patch_size = config.size("patch_size", patch_size, kMostPatch);
  in_channels = config.size("in_channels", in_channels, kMostWidth);
  out_channels =
      config.size("out_channels", config.is_null("out_channels") ? in_channels : out_channels, kMostWidth);
  layers = config.size("num_layers", layers, kMostLayers);
  head_dim = config.size("attention_head_dim", head_dim, kMostHeadDim);
  heads = config.size("num_attention_heads", heads, kMostHeads);
  joint_attention_dim = config.size("joint_attention_dim", joint_attention_dim, kMostWidth);
  pooled_projection_dim = config.size("pooled_projection_dim", pooled_projection_dim, kMostWidth);
  // diffusers then makes a table anew for each size, and saves none.
  if (config.is_null("pos_embed_max_size"))
    throw Error(fmt::format("{}: pos_embed_max_size = null is not supported (only a size)", config.where()));
  pos_embed_max_size = config.size("pos_embed_max_size", pos_embed_max_size, kMostGrid);
  dual_attention_layers = config.integers("dual_attention_layers", {});
  const int64_t caption = config.size("caption_projection_dim", 1152, kMostWidth);
  if (caption != dim())
    throw Error(
        fmt::format("{}: caption_projection_dim = {} should be num_attention_heads * attention_head_dim = {}",
                    config.where(), caption, dim()));
  const std::string norm = config.text("qk_norm", "");
  if (!norm.empty() && norm != "rms_norm")
    throw Error(
        fmt::format("{}: qk_norm = \"{}\" is not supported (only null, \"rms_norm\")", config.where(), norm));
  qk_norm = !norm.empty();
  config.require_all_read();
}

bool TransformerConfig::dual(int64_t layer) const {
  return std::ranges::find(dual_attention_layers, layer) != dual_attention_layers.end();
}

}  // namespace sagelab::sd3
