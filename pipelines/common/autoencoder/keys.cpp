// SPDX-License-Identifier: Apache-2.0
#include "pipelines/common/autoencoder/keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "attention/error.h"

namespace sagelab {
namespace {

// Far beyond any model.
constexpr int64_t kMostWidth = 65536;
constexpr size_t kMostBlocks = 8;

}  // namespace

// diffusers' get_activation, without "mish", which no released model uses.
Activation act_fn_of(Config& config) {
  const std::string name = config.text("act_fn", "silu");
  static constexpr std::array<std::string_view, 4> kKnown{"gelu", "relu", "silu", "swish"};
  if (std::find(kKnown.begin(), kKnown.end(), name) == kKnown.end())
    throw Error(fmt::format("{}: act_fn = \"{}\" is not supported (only gelu, relu, silu, swish)",
                            config.where(), name));
  return activation_from(name);
}

std::vector<int64_t> block_widths_of(Config& config, const std::vector<int64_t>& fallback, int64_t groups) {
  const std::vector<int64_t> widths = config.integers("block_out_channels", fallback);
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

double scaling_factor_of(Config& config, double fallback) {
  const double factor = config.number("scaling_factor", fallback);
  if (!(factor > 0))
    throw Error(fmt::format("{}: scaling_factor = {} should be above 0", config.where(), factor));
  return factor;
}

void require_blocks(Config& config, const std::string& key, const std::string& type, size_t count,
                    size_t fallback) {
  if (config.texts(key, std::vector<std::string>(fallback, type)) != std::vector<std::string>(count, type))
    throw Error(
        fmt::format("{}: {} is not supported (only {} times \"{}\", one for each of block_out_channels)",
                    config.where(), key, count, type));
}

}  // namespace sagelab
