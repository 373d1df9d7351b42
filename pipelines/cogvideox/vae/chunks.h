// SPDX-License-Identifier: Apache-2.0
// How the decoder cuts time and space: shared by the decoder and by the prediction of its memory.
#pragma once

#include <cstdint>
#include <vector>

#include "pipelines/cogvideox/config.h"
#include "pipelines/core/tiling.h"

namespace sagelab::cogvideox {

// Note [Padded once]
// A causal convolution wants two frames in front of its input: copies of the first frame in the first chunk,
// later the last two of the chunk before. The norm in front of it therefore writes into a buffer that is two
// frames longer, and nothing is concatenated.
inline constexpr int64_t kLead = 2;

// Latent frames [begin, end) of every chunk: two each, an odd one goes to the first.
struct ChunkRange {
  int64_t begin, end;
};
std::vector<ChunkRange> chunk_ranges(int64_t frames);

// How many of the upsamplers double time as well as space.
int64_t temporal_levels(const VaeConfig& config);
// Frames after doubling time: the first of an odd count stays single.
inline int64_t doubled_frames(int64_t frames) {
  return frames % 2 ? 2 * frames - 1 : 2 * frames;
}
// Output frames of all chunks.
int64_t output_frames(const VaeConfig& config, const std::vector<ChunkRange>& chunks);

struct TilePlan {
  TileAxis rows, columns;
};
// Tiles are half of the config's sample size. Throws sagelab::Error where they are too small to advance.
TilePlan tile_plan(const VaeConfig& config);
// Whether a latent of h x w is cut at all.
bool needs_tiles(const TilePlan& plan, int64_t h, int64_t w);

}  // namespace sagelab::cogvideox
