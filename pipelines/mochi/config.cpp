// SPDX-License-Identifier: Apache-2.0
#include "pipelines/mochi/config.h"

#include <fmt/format.h>

#include "attention/error.h"
#include "pipelines/mochi/condition.h"

namespace sagelab::mochi {
namespace {

// Far beyond any model; products of a few of them fit 64 bits.
constexpr int64_t kMostHeads = 256, kMostHeadDim = 1024, kMostLayers = 1000, kMostWidth = 65536;
constexpr int64_t kMostPatch = 64;

}  // namespace

TransformerConfig::TransformerConfig(Config& config) {
  config.only("qk_norm", "rms_norm");
  config.only("activation_fn", "swiglu");
  config.ignore({"max_sequence_length"});  // what the model was trained with
  in_channels = config.size("in_channels", in_channels, kMostWidth);
  out_channels = config.size("out_channels", in_channels, kMostWidth);
  patch_size = config.size("patch_size", patch_size, kMostPatch);
  layers = config.size("num_layers", layers, kMostLayers);
  head_dim = config.size("attention_head_dim", head_dim, kMostHeadDim);
  heads = config.size("num_attention_heads", heads, kMostHeads);
  text_dim = config.size("pooled_projection_dim", text_dim, kMostWidth);
  text_embed_dim = config.size("text_embed_dim", text_embed_dim, kMostWidth);
  time_embed_dim = config.size("time_embed_dim", time_embed_dim, kMostWidth);
  if (head_dim % 2)
    throw Error(
        fmt::format("{}: attention_head_dim = {} should be even, for RoPE", config.where(), head_dim));
  if (text_embed_dim % CaptionPool::kHeads)
    throw Error(
        fmt::format("{}: text_embed_dim = {} should be a multiple of {}, the heads that pool the text",
                    config.where(), text_embed_dim, CaptionPool::kHeads));
  config.require_all_read();
}

}  // namespace sagelab::mochi
