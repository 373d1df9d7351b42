// SPDX-License-Identifier: Apache-2.0
#include "pipelines/mochi/vae/config.h"

#include <fmt/format.h>

#include <functional>
#include <numeric>

#include "attention/error.h"
#include "pipelines/common/autoencoder/keys.h"

namespace sagelab::mochi {
namespace {

// Far beyond any model; products of a few of them fit 64 bits.
constexpr int64_t kMostLayers = 1000, kMostWidth = 65536, kMostRatio = 16;
constexpr size_t kMostBlocks = 8;

// AutoencoderKLMochi's own defaults.
const std::vector<double> kMean = {-0.06730895953510081,  -0.038011381506090416, -0.07477820912866141,
                                   -0.05565264470995561,  0.012767231469026969,  -0.04703542746246419,
                                   0.043896967884726704,  -0.09346305707025976,  -0.09918314763016893,
                                   -0.008729793427399178, -0.011931556316503654, -0.0321993391887285};
const std::vector<double> kStd = {0.9263795028493863, 0.9248894543193766, 0.9393059390890617,
                                  0.959253732819592,  0.8244560132752793, 0.917259975397747,
                                  0.9294154431013696, 1.3720942357788521, 0.881393668867029,
                                  0.9168315692124348, 0.9185249279345552, 0.9274757570805041};

std::vector<int64_t> widths_of(Config& config, const std::vector<int64_t>& fallback) {
  const std::string key = "decoder_block_out_channels";
  const std::vector<int64_t> widths = config.integers(key, fallback);
  if (widths.empty() || widths.size() > kMostBlocks)
    throw Error(fmt::format("{}: {} has {} entries, and should have 1 to {}", config.where(), key,
                            widths.size(), kMostBlocks));
  for (const int64_t width : widths)
    if (width < 1 || width > kMostWidth || width % kNormGroups)
      throw Error(fmt::format("{}: {} holds {}, which should be a multiple of {} and at most {}",
                              config.where(), key, width, kNormGroups, kMostWidth));
  return widths;
}

// One value for each of so many blocks.
std::vector<int64_t> per_block(Config& config, const std::string& key, const std::vector<int64_t>& fallback,
                               size_t count, int64_t most) {
  const std::vector<int64_t> values = config.integers(key, fallback);
  if (values.size() != count)
    throw Error(fmt::format("{}: {} has {} entries, and decoder_block_out_channels asks for {}",
                            config.where(), key, values.size(), count));
  for (const int64_t value : values)
    if (value < 1 || value > most)
      throw Error(fmt::format("{}: {} holds {}, which should be 1 to {}", config.where(), key, value, most));
  return values;
}

std::vector<double> per_channel(Config& config, const std::string& key, const std::vector<double>& fallback,
                                int64_t channels) {
  if (config.is_null(key)) {
    config.ignore({key.c_str()});
    return {};
  }
  const std::vector<double> values = config.numbers(key, fallback);
  if (int64_t(values.size()) != channels)
    throw Error(fmt::format("{}: {} has {} entries, and latent_channels = {}", config.where(), key,
                            values.size(), channels));
  return values;
}

int64_t product(const std::vector<int64_t>& values) {
  return std::accumulate(values.begin(), values.end(), int64_t(1), std::multiplies<>());
}

}  // namespace

VaeConfig::VaeConfig(Config& config) {
  out_channels = config.size("out_channels", out_channels, kMostWidth);
  latent_channels = config.size("latent_channels", latent_channels, kMostWidth);
  block_out_channels = widths_of(config, block_out_channels);
  const size_t blocks = block_out_channels.size();
  layers_per_block = per_block(config, "layers_per_block", layers_per_block, blocks + 1, kMostLayers);
  temporal_expansions = per_block(config, "temporal_expansions", temporal_expansions, blocks - 1, kMostRatio);
  spatial_expansions = per_block(config, "spatial_expansions", spatial_expansions, blocks - 1, kMostRatio);
  latents_mean = per_channel(config, "latents_mean", kMean, latent_channels);
  latents_std = per_channel(config, "latents_std", kStd, latent_channels);
  if (latents_mean.empty() || latents_std.empty()) latents_mean = latents_std = {};
  scaling_factor = scaling_factor_of(config, scaling_factor);
  activation = act_fn_of(config);
  config.ignore({"in_channels", "encoder_block_out_channels", "add_attention_block"});  // the encoder's
  config.require_all_read();
}

int64_t VaeConfig::spatial_compression() const {
  return product(spatial_expansions);
}
int64_t VaeConfig::temporal_compression() const {
  return product(temporal_expansions);
}

}  // namespace sagelab::mochi
