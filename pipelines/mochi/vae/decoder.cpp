// SPDX-License-Identifier: Apache-2.0
#include "pipelines/mochi/vae/decoder.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "attention/error.h"
#include "pipelines/mochi/vae/net.h"
#include "pipelines/pipeline.h"

namespace sagelab::mochi {
namespace {

using at::Tensor;

// diffusers takes tiles of min pixels at a stride; what two neighbours share is blended.
TileAxis axis(int64_t min, int64_t stride, int64_t scale) {
  TileAxis a;
  a.scale = scale;
  a.tile = min / scale;
  a.stride = stride / scale;
  a.blend = min - stride;
  a.keep = stride;
  return a;
}

// A constant of each latent channel, for latents [B, C, T, h, w].
Tensor per_channel(const std::vector<double>& values, const Tensor& latents) {
  return at::tensor(values, at::kFloat)
      .view({1, int64_t(values.size()), 1, 1, 1})
      .to(latents.device(), latents.scalar_type());
}

}  // namespace

TilePlan tile_plan(const VaeConfig& config, const TileSizes& sizes) {
  const int64_t scale = config.spatial_compression();
  const TilePlan plan{axis(sizes.min_height, sizes.stride_height, scale),
                      axis(sizes.min_width, sizes.stride_width, scale)};
  if (plan.rows.stride < 1 || plan.columns.stride < 1)
    throw Error(fmt::format("VAE tiles at a stride of {} x {} pixels cannot advance: a latent has {} x {}",
                            sizes.stride_height, sizes.stride_width, scale, scale),
                "decode without tiling");
  return plan;
}

bool needs_tiles(const TilePlan& plan, int64_t h, int64_t w) {
  return w > plan.columns.tile || h > plan.rows.tile;
}

VaeDecoder::VaeDecoder(const Weights& w, const VaeConfig& config)
    : config_(config), net_(std::make_unique<const Net>(w / "decoder", config)) {}

VaeDecoder::VaeDecoder(VaeDecoder&&) noexcept = default;
VaeDecoder::~VaeDecoder() = default;

std::span<const std::string_view> VaeDecoder::unread_prefixes() {
  static constexpr std::array<std::string_view, 1> kPrefixes{"encoder"};
  return kPrefixes;
}

Tensor VaeDecoder::unscale(const Tensor& latents) const {
  if (config_.latents_std.empty()) return latents / config_.scaling_factor;
  return latents * per_channel(config_.latents_std, latents) / config_.scaling_factor +
         per_channel(config_.latents_mean, latents);
}

Tensor VaeDecoder::decode(const Tensor& z, const VaeRun& run) const {
  TORCH_CHECK(z.dim() == 5 && z.size(1) == config_.latent_channels && z.numel() > 0,
              "the VAE takes latents [B, ", config_.latent_channels, ", T, h, w], not ", z.sizes());
  const int64_t latents = z.size(2), ratio = config_.temporal_compression();
  const int64_t skipped = run.drop_last_temporal_frames ? ratio - 1 : 0;
  const int64_t chunks = (latents + kChunk - 1) / kChunk;
  TilePlan plan;
  if (run.tiled) plan = tile_plan(config_, run.tile_sizes);
  const bool cut = run.tiled && needs_tiles(plan, z.size(3), z.size(4));
  const int64_t tiles = cut ? plan.rows.count(z.size(3)) * plan.columns.count(z.size(4)) : 1;
  const int64_t total = z.size(0) * tiles * chunks;
  int64_t done = 0;

  // All chunks of one tile [1, C, T, h, w].
  const auto decode_tile = [&](const Tensor& tile) {
    std::vector<Tensor> caches(net_->slots);
    Tensor out;
    for (int64_t t = 0, to = 0; t < latents; t += kChunk) {
      const int64_t n = std::min(kChunk, latents - t);
      const Tensor part = tile.narrow(2, t, n).to(net_->conv_in.weight.options()).contiguous();
      Tensor frames = (*net_)(part, {&caches, t + n == latents, t == 0 ? skipped : 0, &run});
      if (run.on_chunk && !run.on_chunk(++done, total)) throw Cancelled();
      if (chunks == 1) return frames;
      if (!out.defined()) {
        out = at::empty({1, frames.size(1), latents * ratio - skipped, frames.size(3), frames.size(4)},
                        frames.options());
      }
      out.narrow(2, to, frames.size(2)).copy_(frames);
      to += frames.size(2);
    }
    return out;
  };
  // One video at a time: none sees another, so the result is the same and the peak that of one.
  const auto decode_one = [&](const Tensor& video) {
    if (!cut) return decode_tile(video);
    const int64_t scale = config_.spatial_compression();
    return decode_tiles(video, plan.rows, plan.columns, decode_tile)
        .narrow(3, 0, z.size(3) * scale)
        .narrow(4, 0, z.size(4) * scale);
  };
  if (z.size(0) == 1) return decode_one(z);
  std::vector<Tensor> videos;
  for (int64_t i = 0; i < z.size(0); ++i) videos.push_back(decode_one(z.narrow(0, i, 1)));
  return at::cat(videos);
}

}  // namespace sagelab::mochi
