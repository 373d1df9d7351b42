// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "attention/error.h"
#include "pipelines/image/autoencoder_kl.h"

namespace sagelab {
namespace {

// Far beyond any model; products of a few of them fit 64 bits.
constexpr int64_t kMostLayers = 1000, kMostWidth = 65536;
constexpr size_t kMostBlocks = 8;

// diffusers' get_activation, without "mish", which no released model uses.
Activation activation_of(Config& config) {
  const std::string name = config.text("act_fn", "silu");
  static constexpr std::array<std::string_view, 4> kKnown{"gelu", "relu", "silu", "swish"};
  if (std::find(kKnown.begin(), kKnown.end(), name) == kKnown.end())
    throw Error(fmt::format("{}: act_fn = \"{}\" is not supported (only gelu, relu, silu, swish)",
                            config.where(), name));
  return activation_from(name);
}

std::vector<int64_t> widths_of(Config& config, int64_t groups) {
  const std::vector<int64_t> widths = config.integers("block_out_channels", {64});
  if (widths.empty() || widths.size() > kMostBlocks)
    throw Error(fmt::format("{}: block_out_channels has {} entries, and should have 1 to {}", config.where(),
                            widths.size(), kMostBlocks));
  for (const int64_t width : widths)
    if (width > kMostWidth)
      throw Error(fmt::format("{}: block_out_channels holds {}, which should be at most {}", config.where(),
                              width, kMostWidth));
    else if (width < 1 || width % groups)
      throw Error(
          fmt::format("{}: block_out_channels holds {}, which is not a multiple of norm_num_groups = {}",
                      config.where(), width, groups));
  return widths;
}

void check_block_types(Config& config, size_t count) {
  constexpr const char* kType = "UpDecoderBlock2D";
  if (config.texts("up_block_types", {kType}) != std::vector<std::string>(count, kType))
    throw Error(
        fmt::format("{}: up_block_types is not supported (only {} times \"{}\", one for each of "
                    "block_out_channels)",
                    config.where(), count, kType));
}

}  // namespace

AutoencoderKLConfig::AutoencoderKLConfig(Config& config) {
  out_channels = config.size("out_channels", out_channels, kMostWidth);
  latent_channels = config.size("latent_channels", latent_channels, kMostWidth);
  layers_per_block = config.size("layers_per_block", layers_per_block, kMostLayers);
  norm_num_groups = config.size("norm_num_groups", norm_num_groups, kMostWidth);
  block_out_channels = widths_of(config, norm_num_groups);
  check_block_types(config, block_out_channels.size());
  sample_size = config.size("sample_size", sample_size, kMostWidth);
  scaling_factor = config.number("scaling_factor", scaling_factor);
  if (!(scaling_factor > 0))
    throw Error(fmt::format("{}: scaling_factor = {} should be above 0", config.where(), scaling_factor));
  if (config.has("shift_factor"))
    shift_factor = config.number("shift_factor", 0);
  else
    config.ignore({"shift_factor"});
  use_post_quant_conv = config.boolean("use_post_quant_conv", use_post_quant_conv);
  mid_block_add_attention = config.boolean("mid_block_add_attention", mid_block_add_attention);
  activation = activation_of(config);
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
