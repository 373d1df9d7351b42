// SPDX-License-Identifier: Apache-2.0
// From a warp's accumulators to the caller's rows: the division by the row sum, V's scales and mean, the
// rounding, and the log-sum-exp.
#pragma once

#include "attention/sage2/mma/warp.cuh"

namespace sagelab::attention::sage2::mma {

// What a block works on: one tile of queries of one head.
struct Work {
  int batch, head, q_tile;
  uint32_t q_head, kv;  // index of (batch, head), and of (batch, head of K and V)
};

template <class S>
struct Epilogue {
  const AttentionParams& p;
  Work w;
  unsigned char* stage;  // this warp's 16 rows in shared memory

  __device__ void finish(Warp<S>& warp) const {
    if (p.settings.sum == Sum::Fp32) gather_sums(warp);
    if (p.lse) write_lse(warp);
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      stage_rows(warp, m);
      __syncwarp();
      store_rows(m);
      __syncwarp();
    }
  }

 private:
  static __device__ int lane() {
    return lane_index();
  }
  __device__ int first() const {
    return w.q_tile * kQRows + thread_index() / 32 * kWarpRows;
  }

  static __device__ void gather_sums(Warp<S>& warp) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float& sum = warp.sum[i / 2][i % 2];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    }
  }

  // Natural logarithm of the sum of exponentials of the true scores: those here lack the product of the query
  // with the vector subtracted from K.
  __device__ void write_lse(const Warp<S>& warp) const {
    if (lane() % 4) return;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int m = i / 2, r = i % 2, query = first() + m * 16 + accumulator_row(lane(), 2 * r);
      if (query >= p.q_len) continue;
      const int64_t at = int64_t(w.q_head) * p.q_len + query;
      const float sum = warp.sum[m][r];
      float lse = -INFINITY;
      if (sum > 0) {
        lse = kLn2 * (warp.top[m][r] - S::kLog2P + log2f(sum));
        if (p.x.q_shift) lse = fmaf(p.x.q_shift[at], p.scale, lse);
      }
      p.lse[at] = lse;
    }
  }

  __device__ float2 v_scale(int column) const {
    if (p.settings.v == VScale::Tile) return {1, 1};
    return *reinterpret_cast<const float2*>(p.x.v_scale + int64_t(w.kv) * S::kDim + column);
  }
  __device__ float2 v_mean(int column) const {
    if (!p.x.v_mean) return {0, 0};
    return *reinterpret_cast<const float2*>(p.x.v_mean + int64_t(w.kv) * S::kDim + column);
  }

  // A row that sees no key is zero, whatever the mean of V.
  __device__ void stage_rows(const Warp<S>& warp, int m) const {
    float inverse[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) inverse[r] = warp.sum[m][r] > 0 ? __fdividef(1.f, warp.sum[m][r]) : 0.f;
#pragma unroll
    for (int n = 0; n < S::kDim / 8; ++n) {
      const int column = n * 8 + accumulator_column(lane(), 0);
      const float2 scale = v_scale(column), mean = v_mean(column);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float* o = &warp.o[m][n][2 * r];
        const bool any = inverse[r] > 0;
        const float x0 = any ? fmaf(o[0] * inverse[r], scale.x, mean.x) : 0.f;
        const float x1 = any ? fmaf(o[1] * inverse[r], scale.y, mean.y) : 0.f;
        const bool bfloat16 = p.scalar == sagelab::kernel::Scalar::BFloat16;
        const uint32_t word = bfloat16 ? pack_bfloat16(x0, x1) : pack_half(x0, x1);
        *reinterpret_cast<uint32_t*>(stage + staged(accumulator_row(lane(), 2 * r), column, S::kDim)) = word;
      }
    }
  }

  // Where a query's result goes; null if nobody asked for it.
  __device__ uint16_t* destination(int query) const {
    uint16_t* to = nullptr;
#pragma unroll
    for (int i = 0; i < kMaxSegments; ++i) {
      const Destination& d = p.to[i];
      if (i < p.segments && query >= d.begin && query < d.end) {
        to =
            static_cast<uint16_t*>(d.out) + w.batch * d.batch + (query - d.begin) * d.token + w.head * d.head;
      }
    }
    return to;
  }

  __device__ void store_rows(int m) const {
    constexpr int kChunks = S::kDim / 8, kRows = 32 / kChunks;
    const int column = lane() % kChunks * 8;
#pragma unroll 1
    for (int from = 0; from < 16; from += kRows) {
      const int row = from + lane() / kChunks, query = first() + m * 16 + row;
      if (query >= p.q_len || column >= p.head_dim) continue;
      if (uint16_t* to = destination(query)) {
        store_chunk(to + column, *reinterpret_cast<const uint4*>(stage + staged(row, column, S::kDim)),
                    p.head_dim - column);
      }
    }
  }

  static __device__ void store_chunk(uint16_t* to, const uint4& chunk, int count) {
    if (count >= 8 && reinterpret_cast<uintptr_t>(to) % 16 == 0) {
      *reinterpret_cast<uint4*>(to) = chunk;
      return;
    }
    const uint32_t words[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i < count) to[i] = static_cast<uint16_t>(words[i / 2] >> i % 2 * 16);
    }
  }
};

}  // namespace sagelab::attention::sage2::mma
