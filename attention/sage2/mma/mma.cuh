// SPDX-License-Identifier: Apache-2.0
// Attention on quantized operands by mma.sync: a block takes 128 queries of one head past its keys, from the
// last tile to the first. Four warps of 32 queries; K and V come by cp.async, a tile ahead.
#pragma once

#include "attention/sage2/mma/epilogue.cuh"
#include "attention/sage2/mma/launch.h"

namespace sagelab::attention::sage2::mma {

// All threads of the block copy kSize contiguous bytes to shared memory.
template <int kSize>
__device__ void copy_tile(uint32_t to, const void* from) {
  const int first = thread_index() * 16;
  const char* mine = static_cast<const char*>(from) + first;
#pragma unroll
  for (int i = 0; i < kSize; i += kThreads * 16) {
    if (i + kThreads * 16 <= kSize || i + first < kSize) copy_async(to + first + i, mine + i);
  }
}

// Heads one after the other, and within a head the queries with most keys before them first: under a causal
// mask these take longest. Read anew at each call, lest what only the epilogue wants sits in registers.
__device__ inline Work work_of(const AttentionParams& p) {
  const uint32_t block = block_index(), q_tiles = static_cast<uint32_t>(tiles(p.q_len, kQRows));
  Work w;
  w.q_head = block / q_tiles;
  w.q_tile = static_cast<int>(q_tiles - 1 - block % q_tiles);
  w.batch = static_cast<int>(w.q_head) / p.heads;
  w.head = static_cast<int>(w.q_head) % p.heads;
  w.kv = static_cast<uint32_t>(w.batch * p.kv_heads + w.head / (p.heads / p.kv_heads));
  return w;
}

// From global to shared memory. Tiles are counted over all heads.
template <class S>
struct Loader {
  const AttentionParams& p;
  uint32_t memory;
  uint32_t q_tile, first_kv_tile;

  __device__ Loader(const AttentionParams& params, const Work& w, uint32_t shared)
      : p(params), memory(shared) {
    const uint32_t kv_tiles = static_cast<uint32_t>(tiles(p.kv_len, kKeys));
    q_tile = w.q_head * static_cast<uint32_t>(tiles(p.q_len, kQRows)) + w.q_tile;
    first_kv_tile = w.kv * kv_tiles;
  }

  __device__ uint32_t k_at(int stage) const { return memory + S::kK + stage * S::kKStage; }
  __device__ uint32_t v_at(int stage) const { return memory + S::kV + stage * S::kVStage; }

  __device__ void load_q() const {
    copy_tile<S::kQTile>(memory, static_cast<const char*>(p.x.q) + int64_t(q_tile) * S::kQTile);
  }
  __device__ void load_k(int tile, int stage) const {
    copy_tile<S::kKTile>(k_at(stage),
                         static_cast<const char*>(p.x.k) + int64_t(first_kv_tile + tile) * S::kKTile);
    if constexpr (S::kInt4) {
      const float* delta =
          p.x.delta + int64_t(q_tile * static_cast<uint32_t>(tiles(p.kv_len, kKeys)) + tile) * kKeys;
      if (p.x.delta) copy_tile<S::kDelta>(k_at(stage) + S::kKTile, delta);
    }
  }
  __device__ void load_v(int tile, int stage) const {
    copy_tile<S::kVTile>(v_at(stage),
                         static_cast<const char*>(p.x.v) + int64_t(first_kv_tile + tile) * S::kVTile);
    if constexpr (S::kFp8) {
      const float* scale = p.x.v_scale + int64_t(first_kv_tile + tile) * S::kDim;
      if (p.settings.v == VScale::Tile) copy_tile<S::kVScales>(v_at(stage) + S::kVTile, scale);
    }
  }
  // This thread's scales: one of K, and one of Q times what takes scores to base-2 logarithms.
  __device__ float k_scale(int tile) const {
    return p.x.k_scale[int64_t(first_kv_tile + tile) * kKScalesPerTile + thread_index() % 4];
  }
  __device__ float q_scale() const {
    const int at = thread_index() / 32 * 8 + lane_index() / 4;
    return p.x.q_scale[int64_t(q_tile) * q_scales_per_tile(Arch::Sm80) + at] * (p.scale * kLog2e);
  }
};

// int4 without smooth-Q adds a delta of zero.
template <class S>
__device__ void clear_delta(unsigned char* memory) {
  static_assert(kThreads == 2 * kKeys);
  const int stage = thread_index() / kKeys, key = thread_index() % kKeys;
  reinterpret_cast<float*>(memory + S::kK + stage * S::kKStage + S::kKTile)[key] = 0;
}

template <Qk kQk, Pv kPv, int kD>
__global__ void __launch_bounds__(kThreads, 2) attend(const __grid_constant__ AttentionParams p) {
  using S = Shape<kQk, kPv, kD>;
  extern __shared__ __align__(128) unsigned char memory[];
  const Work w = work_of(p);
  const Loader<S> loader(p, w, shared_address(memory));
  const Lengths lengths{static_cast<int>(p.q_len), static_cast<int>(p.kv_len), p.causal};
  const bool scaled = S::kFp8 && p.settings.v == VScale::Tile;
  const bool sum_fp32 = p.settings.sum == Sum::Fp32;

  int tile = range_of(lengths, w.q_tile * kQRows, kQRows).tiles - 1;
  float k_scale = 0;
  loader.load_q();
  if (tile >= 0) {
    loader.load_k(tile, tile % 2);
    if (S::kVStages == 2) loader.load_v(tile, tile % 2);
    k_scale = loader.k_scale(tile);
  }
  commit_copies();
  if (S::kInt4 && !p.x.delta) clear_delta<S>(memory);
  const float q_scale = loader.q_scale();

  Warp<S> warp;
  warp.clear();
  if (S::kQInRegisters) {
    wait_copies<0>();
    __syncthreads();
    warp.keep_queries(loader.memory + thread_index() / 32 * kWarpRows * S::kQkBytes);
  }
  for (; tile >= 0; --tile) {
    const int stage = tile % 2;
    const int warp_row = thread_index() / 32 * kWarpRows, first = w.q_tile * kQRows + warp_row;
    const Range mine = range_of(lengths, first, kWarpRows);
    // After this barrier this tile's K is here (V too, if it has two stages), and no warp is still at the
    // tile before: what that one occupied may be overwritten.
    wait_copies<0>();
    __syncthreads();
    TileScale t{.sigma = q_scale * k_scale,
                .log2_scale = p.scale * kLog2e,
                .masked = tile >= mine.full,
                .lengths = lengths,
                .first_query = first,
                .first_key = tile * kKeys,
                .sum = sum_fp32};
    if (S::kVStages == 1) {
      loader.load_v(tile, 0);
      commit_copies();
    }
    if (tile > 0) {
      loader.load_k(tile - 1, stage ^ 1);
      if (S::kVStages == 2) loader.load_v(tile - 1, stage ^ 1);
      k_scale = loader.k_scale(tile - 1);
    }
    commit_copies();
    const bool active = tile < mine.tiles;
    if (active) {
      t.delta = loader.k_at(stage) + S::kKTile;
      warp.multiply_keys(loader.memory + warp_row * S::kQkBytes, loader.k_at(stage));
      warp.softmax(t);
    }
    if (S::kVStages == 1) {  // V, but not yet the next K
      wait_copies<1>();
      __syncthreads();
    }
    if (active) {
      const uint32_t v = loader.v_at(S::kVStages == 2 ? stage : 0);
      warp.multiply_values(v, scaled ? v + S::kVTile : 0, !sum_fp32);
    }
  }
  wait_copies<0>();
  __syncthreads();  // the rows are staged where the tiles were
  Epilogue<S>{p, work_of(p), memory + thread_index() / 32 * (16 * kD * 2)}.finish(warp);
}

template <Qk kQk, Pv kPv, int kD>
cudaError_t launch(const AttentionParams& p, cudaStream_t stream) {
  using S = Shape<kQk, kPv, kD>;
  const int64_t blocks = tiles(p.q_len, kQRows) * p.heads * p.batch;
  const cudaError_t error =
      cudaFuncSetAttribute(attend<kQk, kPv, kD>, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kBytes);
  if (error != cudaSuccess) return error;
  attend<kQk, kPv, kD><<<static_cast<unsigned>(blocks), kThreads, S::kBytes, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace sagelab::attention::sage2::mma
