// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "attention/error.h"
#include "pipelines/common/autoencoder/keys.h"
#include "pipelines/image/autoencoder_kl.h"

namespace sagelab {
namespace {

// Far beyond any model; products of a few of them fit 64 bits.
constexpr int64_t kMostLayers = 1000, kMostWidth = 65536;

}  // namespace

AutoencoderKLConfig::AutoencoderKLConfig(Config& config) {
  out_channels = config.size("out_channels", out_channels, kMostWidth);
  latent_channels = config.size("latent_channels", latent_channels, kMostWidth);
  layers_per_block = config.size("layers_per_block", layers_per_block, kMostLayers);
  norm_num_groups = config.size("norm_num_groups", norm_num_groups, kMostWidth);
  block_out_channels = block_widths_of(config, block_out_channels, norm_num_groups);
  require_blocks(config, "up_block_types", "UpDecoderBlock2D", block_out_channels.size(), 1);
  sample_size = config.size("sample_size", sample_size, kMostWidth);
  scaling_factor = scaling_factor_of(config, scaling_factor);
  if (config.has("shift_factor"))
    shift_factor = config.number("shift_factor", 0);
  else
    config.ignore({"shift_factor"});
  use_post_quant_conv = config.boolean("use_post_quant_conv", use_post_quant_conv);
  mid_block_add_attention = config.boolean("mid_block_add_attention", mid_block_add_attention);
  activation = act_fn_of(config);
  config.only("latents_mean", nullptr);
  config.only("latents_std", nullptr);
  // The encoder's, and what the pipelines of FLUX and SD3 never look at.
  config.ignore({"in_channels", "down_block_types", "use_quant_conv", "force_upcast"});
  config.require_all_read();
}

TileAxis AutoencoderKLConfig::tile_axis() const {
  constexpr double kOverlap = 0.25;
  TileAxis axis;
  axis.scale = spatial_compression();
  axis.tile = sample_size / axis.scale;
  axis.stride = int64_t(double(axis.tile) * (1 - kOverlap));
  axis.blend = int64_t(double(sample_size) * kOverlap);
  axis.keep = sample_size - axis.blend;
  if (axis.stride < 1)
    throw Error(fmt::format("VAE tiles of {} latents (sample_size {} over {}) are too small to overlap",
                            axis.tile, sample_size, axis.scale),
                "decode without tiling");
  return axis;
}

bool AutoencoderKLConfig::needs_tiles(int64_t h, int64_t w) const {
  return std::max(h, w) > sample_size / spatial_compression();
}

}  // namespace sagelab
