// SPDX-License-Identifier: Apache-2.0
#include "pipelines/flux/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "attention/error.h"

namespace sagelab::flux {
namespace {

// Far beyond any model; products of a few of them fit 64 bits.
constexpr int64_t kMostHeads = 256, kMostHeadDim = 1024, kMostLayers = 1000, kMostWidth = 65536;

std::array<int64_t, 3> rope_dims_of(Config& config, const TransformerConfig& c) {
  const std::vector<int64_t> dims =
      config.integers("axes_dims_rope", {c.rope_dims.begin(), c.rope_dims.end()});
  const auto refuse = [&](const std::string& why) {
    throw Error(
        fmt::format("{}: axes_dims_rope = [{}] should {}", config.where(), fmt::join(dims, ", "), why));
  };
  if (dims.size() != c.rope_dims.size()) refuse("have three entries");
  for (const int64_t dim : dims)
    if (dim < 2 || dim % 2 || dim > kMostHeadDim)
      refuse(fmt::format("hold even numbers from 2 to {}", kMostHeadDim));
  if (std::accumulate(dims.begin(), dims.end(), int64_t(0)) != c.head_dim)
    refuse(fmt::format("add up to attention_head_dim = {}", c.head_dim));
  return {dims[0], dims[1], dims[2]};
}

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
  rope_dims = rope_dims_of(config, *this);
  config.require_all_read();
}

}  // namespace sagelab::flux
