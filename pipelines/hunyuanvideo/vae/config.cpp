// SPDX-License-Identifier: Apache-2.0
#include "pipelines/hunyuanvideo/vae/config.h"

#include <fmt/format.h>

#include <bit>

#include "attention/error.h"
#include "pipelines/common/autoencoder/keys.h"

namespace sagelab::hunyuanvideo {
namespace {

// Far beyond any model; products of a few of them fit 64 bits.
constexpr int64_t kMostBlockLayers = 1000, kMostChannels = 65536, kMostCompression = 64;

int64_t levels(int64_t compression) {
  return std::bit_width(uint64_t(compression)) - 1;
}

}  // namespace

VaeConfig::VaeConfig(Config& config) {
  out_channels = config.size("out_channels", out_channels, kMostChannels);
  latent_channels = config.size("latent_channels", latent_channels, kMostChannels);
  layers_per_block = config.size("layers_per_block", layers_per_block, kMostBlockLayers);
  norm_num_groups = config.size("norm_num_groups", norm_num_groups, kMostChannels);
  block_out_channels = block_widths_of(config, block_out_channels, norm_num_groups);
  const auto blocks = int64_t(block_out_channels.size());
  for (const char* name : {"up", "down"})
    require_blocks(config, fmt::format("{}_block_types", name),
                   fmt::format("HunyuanVideo{}Block3D", name[0] == 'u' ? "Up" : "Down"), size_t(blocks), 4);
  scaling_factor = scaling_factor_of(config, scaling_factor);
  spatial_compression = config.size("spatial_compression_ratio", spatial_compression, kMostCompression);
  if (!std::has_single_bit(uint64_t(spatial_compression)) || levels(spatial_compression) > blocks)
    throw Error(
        fmt::format("{}: spatial_compression_ratio = {} should be a power of two that {} blocks reach",
                    config.where(), spatial_compression, blocks));
  config.only("temporal_compression_ratio", 4);  // diffusers' class takes no other
  if (levels(temporal_compression) > blocks - 1)
    throw Error(
        fmt::format("{}: block_out_channels has {} entries, and should have at least 3 for "
                    "temporal_compression_ratio = 4",
                    config.where(), blocks));
  mid_block_add_attention = config.boolean("mid_block_add_attention", mid_block_add_attention);
  activation = act_fn_of(config);
  config.ignore({"in_channels"});  // the encoder's
  config.require_all_read();
}

VaeConfig::Factors VaeConfig::upsampling(int64_t i) const {
  const auto last = int64_t(block_out_channels.size()) - 1;
  Factors factors;
  if (i < levels(spatial_compression)) factors.space = 2;
  if (i >= last - levels(temporal_compression) && i < last) factors.time = 2;
  return factors;
}

}  // namespace sagelab::hunyuanvideo
