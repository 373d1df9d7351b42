// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "attention/error.h"
#include "pipelines/hunyuanvideo/vae/decoder.h"

namespace sagelab::hunyuanvideo {
namespace {

// diffusers takes tiles of a size at a stride; what two neighbours share is blended.
TileAxis axis(int64_t size, int64_t stride, int64_t scale) {
  TileAxis a;
  a.scale = scale;
  a.tile = size / scale;
  a.stride = stride / scale;
  a.blend = size - stride;
  a.keep = stride;
  return a;
}

}  // namespace

int64_t TilePlan::count_time(int64_t latent_frames) const {
  const int64_t count = frames.count(latent_frames);
  return count > 1 && length_time(latent_frames, count - 1) == 1 ? count - 1 : count;
}

int64_t TilePlan::length_time(int64_t latent_frames, int64_t i) const {
  return std::min(frames.tile + 1, latent_frames - i * frames.stride);
}

TilePlan tile_plan(const VaeConfig& config, const TileSizes& sizes) {
  const TilePlan plan{axis(sizes.frames, sizes.stride_frames, config.temporal_compression),
                      axis(sizes.height, sizes.stride_height, config.spatial_compression),
                      axis(sizes.width, sizes.stride_width, config.spatial_compression)};
  for (const TileAxis& a : {plan.frames, plan.rows, plan.columns})
    if (a.stride < 1 || a.keep % a.scale)
      throw Error(fmt::format("VAE tiles at a stride of {} cannot advance by latents of {}", a.keep, a.scale),
                  "decode without tiling");
  return plan;
}

}  // namespace sagelab::hunyuanvideo
