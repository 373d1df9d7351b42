// SPDX-License-Identifier: Apache-2.0
#include "pipelines/cogvideox/vae/chunks.h"

#include <fmt/format.h>

#include <bit>

#include "attention/error.h"

namespace sagelab::cogvideox {
namespace {

// diffusers computes these as products of Python floats, truncated: 45 * (1 - 1 / 5) must be 36, whatever it
// is on paper.
TileAxis axis(int64_t sample_size, int64_t scale, double overlap) {
  TileAxis a;
  const int64_t tile = sample_size / 2;
  a.scale = scale;
  a.tile = tile / scale;
  a.stride = int64_t(double(a.tile) * (1 - overlap));
  a.blend = int64_t(double(tile) * overlap);
  a.keep = tile - a.blend;
  return a;
}

}  // namespace

std::vector<ChunkRange> chunk_ranges(int64_t frames) {
  constexpr int64_t kChunk = 2;
  const int64_t count = std::max<int64_t>(frames / kChunk, 1), rest = frames % kChunk;
  std::vector<ChunkRange> out;
  for (int64_t k = 0; k < count; ++k) {
    out.push_back({kChunk * k + (k == 0 ? 0 : rest), std::min(kChunk * (k + 1) + rest, frames)});
  }
  return out;
}

int64_t temporal_levels(const VaeConfig& config) {
  return std::bit_width(uint64_t(config.temporal_compression_ratio)) - 1;
}

int64_t output_frames(const VaeConfig& config, const std::vector<ChunkRange>& chunks) {
  const int64_t upsamplers = int64_t(config.block_out_channels.size()) - 1;
  int64_t sum = 0;
  for (const ChunkRange& chunk : chunks) {
    int64_t frames = chunk.end - chunk.begin;
    for (int64_t i = 0; i < std::min(temporal_levels(config), upsamplers); ++i)
      frames = doubled_frames(frames);
    sum += frames;
  }
  return sum;
}

TilePlan tile_plan(const VaeConfig& config) {
  const TilePlan plan{axis(config.sample_height, config.spatial_compression(), 1.0 / 6),
                      axis(config.sample_width, config.spatial_compression(), 1.0 / 5)};
  if (plan.rows.stride < 1 || plan.columns.stride < 1) {
    throw Error(
        fmt::format(
            "VAE tiles of {} x {} latents (half of sample_height {} and sample_width {}) are too small to "
            "overlap",
            plan.rows.tile, plan.columns.tile, config.sample_height, config.sample_width),
        "decode without tiling");
  }
  return plan;
}

bool needs_tiles(const TilePlan& plan, int64_t h, int64_t w) {
  return w > plan.columns.tile || h > plan.rows.tile;
}

}  // namespace sagelab::cogvideox
