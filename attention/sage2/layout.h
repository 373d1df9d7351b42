// SPDX-License-Identifier: Apache-2.0
// How quantized operands lie in memory: in tiles that are, byte for byte, what the kernels want in shared
// memory, so that one bulk copy loads a tile and no thread computes an address.
//
// A tile is a number of rows of 32, 64 or 128 bytes. Its 16-byte chunks are permuted within 8 rows (the
// swizzle of the tensor cores' descriptors; also free of bank conflicts for ldmatrix).
//   q  [B, H,   q_tiles,  128 rows: queries x D]          int8, or int4 two to a byte, low nibble first
//   k  [B, Hkv, kv_tiles, kv_rows rows: keys x D]         likewise
//   v  [B, Hkv, kv_tiles, D rows: channels x kv_rows]     e4m3, keys permuted (fp8_key), or fp16, keys in
//   order
// D is the head dimension padded to 64 or 128. Rows beyond the last token, and columns beyond the head
// dimension, are zero. Scales are fp32:
//   q_scale [B, H, q_tiles, 8 * 128 / q_group]  k_scale [B, Hkv, kv_tiles, 4]  v_scale [B, Hkv, kv_tiles or
//   1, D]
#pragma once

#include <cstdint>

#include "attention/sage2/settings.h"

#ifdef __CUDACC__
#define SAGELAB_HOST_DEVICE __host__ __device__
#else
#define SAGELAB_HOST_DEVICE
#endif

namespace sagelab::attention::sage2 {

constexpr int kQRows = 128;        // queries of a tile
constexpr int kSampleStride = 16;  // Sampled looks at one token of this many
// A channel of V keeps a mean of less than this share of its largest value: values round to e4m3 evenly about
// zero, which taking away next to nothing would spoil for nothing.
constexpr float kSmallMean = 1.f / 16;
constexpr float kVMargin = 16;     // VScale::Sampled: how much more than the largest sampled value has room
constexpr float kLargest = 1e38f;  // values beyond are treated as not finite: differences of smaller ones are

// Keys of a tile.
constexpr int kv_rows(Arch arch) {
  return arch == Arch::Sm90 ? 128 : 64;
}
// Queries that one warp holds: they share 8 scales, one to the rows that are equal modulo 8.
constexpr int q_group(Arch arch) {
  return arch == Arch::Sm90 ? 16 : 32;
}
constexpr int q_scales_per_tile(Arch arch) {
  return kQRows / q_group(arch) * 8;
}
constexpr int kKScalesPerTile = 4;
// Whether the maxima of V are those of all tokens, and not of sampled ones.
constexpr bool whole_maxima(const Settings& s) {
  return s.v == VScale::Channel || (s.v == VScale::Tile && s.smooth_v == Mean::Full);
}
constexpr int64_t tiles(int64_t rows, int per_tile) {
  return (rows + per_tile - 1) / per_tile;
}
constexpr int padded_head_dim(int64_t head_dim) {
  return head_dim <= 64 ? 64 : 128;
}
// Powers of 2 that a score may exceed a row's maximum by before that moves (wgmma/attention.cuh, Note
// [Slack]).
constexpr float maximum_slack(const Settings& s, int64_t head_dim) {
  return s.arch == Arch::Sm90 && s.pv == Pv::Fp8 && s.v != VScale::Tile && padded_head_dim(head_dim) == 64
             ? 3.f
             : 0.f;
}

// The token that Mean::Sampled takes of a block of kSampleStride: jittered, because tokens at a fixed
// distance can all be of one column of the picture.
SAGELAB_HOST_DEVICE constexpr int64_t sampled_token(int64_t block, int64_t length) {
  const int64_t token = block * kSampleStride + (uint32_t(block) * 2654435761u >> 28);
  return token < length ? token : length - 1;
}

// The scale of a query among those of its tile, and of a key.
SAGELAB_HOST_DEVICE constexpr int q_scale_index(int row, int group) {
  return row / group * 8 + row % 8;
}
SAGELAB_HOST_DEVICE constexpr int k_scale_index(int row) {
  return row % 8 / 2;
}

// Where byte `column` of a tile's row lies. row_bytes: 32, 64 or 128.
SAGELAB_HOST_DEVICE constexpr int swizzled(int row, int column, int row_bytes) {
  const int chunks = row_bytes / 16, chunk = column / 16 ^ (row / (128 / row_bytes)) % chunks;
  return row * row_bytes + chunk * 16 + column % 16;
}

// The key at a position of a row of fp8 V: the accumulators of Q K^T, as the threads hold them, are then the
// A operand of P V without any exchange. Within 16: 0 1 8 9 2 3 10 11 4 5 12 13 6 7 14 15.
SAGELAB_HOST_DEVICE constexpr int fp8_key(int position) {
  const int within = position % 16;
  return position - within + (within % 4 / 2) * 8 + within / 4 * 2 + within % 2;
}

}  // namespace sagelab::attention::sage2
