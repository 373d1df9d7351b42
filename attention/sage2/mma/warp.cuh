// SPDX-License-Identifier: Apache-2.0
// What one warp does with a tile of 64 keys: scores, softmax, and the product with V. It holds 32 queries as
// two tiles of 16 rows ("m"); of each, a thread has the rows lane / 4 and lane / 4 + 8 ("r").
//
// The scales of Q and K are laid out such that all scores of a thread share one factor (layout.h).
#pragma once

#include <climits>

#include "attention/sage2/mma/ptx.cuh"
#include "attention/sage2/mma/shape.cuh"

namespace sagelab::attention::sage2::mma {

// What a tile of keys brings to the softmax.
struct TileScale {
  float sigma;       // takes this thread's integer scores to base-2 logarithms
  float log2_scale;  // the same for delta
  uint32_t delta;    // in shared memory, [kKeys]; int4 only
  bool masked;       // whether `visible` matters
  Lengths lengths;   // with the next two: which keys are masked
  int first_query;   // of the warp
  int first_key;     // of the tile
  bool sum;          // whether to sum P in fp32
};

template <class S>
struct Warp {
  uint32_t kept[S::kQSteps][2][4];  // fragments of Q
  int scores[2][kKeyTiles][4];
  uint32_t p[2][S::kPvSteps][4];  // the A operand of P V
  float o[2][S::kDim / 8][4];
  float top[2][2], sum[2][2], decay[2][2];

  __device__ void clear() {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int n = 0; n < S::kDim / 8; ++n) o[m][n][0] = o[m][n][1] = o[m][n][2] = o[m][n][3] = 0;
      top[m][0] = top[m][1] = kLowest;
      sum[m][0] = sum[m][1] = 0;
      decay[m][0] = decay[m][1] = 1;
    }
  }

  // Where Q has registers of its own: its fragments, once for all tiles.
  __device__ void keep_queries(uint32_t q) {
#pragma unroll
    for (int step = 0; step < S::kQSteps; ++step) load_queries(kept[step], q, step);
  }

  // q: of this warp's rows; k: of the tile. Both in shared memory.
  __device__ void multiply_keys(uint32_t q, uint32_t k) {
    const int b_at = b_offset(lane_index(), S::kQkBytes);
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n)
        scores[m][n][0] = scores[m][n][1] = scores[m][n][2] = scores[m][n][3] = 0;
    }
#pragma unroll
    for (int step = 0; step < S::kQkSteps; ++step) {
      uint32_t(&a)[2][4] = kept[S::kQInRegisters ? step : 0];
      if constexpr (!S::kQInRegisters) load_queries(a, q, step);
#pragma unroll
      for (int n = 0; n < kKeyTiles; n += 2) {
        uint32_t b[4];
        load_matrices(b, k + n * 8 * S::kQkBytes + step_offset(b_at, step));
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          multiply(scores[m][n], a[m], b[0], b[1]);
          multiply(scores[m][n + 1], a[m], b[2], b[3]);
        }
      }
    }
  }

  __device__ void softmax(const TileScale& t) {
    if constexpr (S::kInt4) add_delta(t);
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      float x[kKeyTiles][4];
      if constexpr (S::kInt4) {
        exponentials_of_sums(x, m, t);
      } else {
        exponentials(x, m, t);
      }
      if (t.sum) add(x, m);
      pack(x, m);
    }
  }

  // v: the tile; v_scale: its scales per channel, or 0. Both in shared memory.
  __device__ void multiply_values(uint32_t v, uint32_t v_scale, bool sum_by_matrix) {
    if (sum_by_matrix) add_by_matrix();
    if constexpr (!S::kFp8) {
      accumulate_half(v);
    } else if (v_scale) {
      accumulate_fp8<true>(v, v_scale);
    } else {
      accumulate_fp8<false>(v, 0);
    }
  }

 private:
  static __device__ void load_queries(uint32_t (&a)[2][4], uint32_t q, int step) {
    const int at = step_offset(a_offset(lane_index(), S::kQkBytes), step);
#pragma unroll
    for (int m = 0; m < 2; ++m) load_matrices(a[m], q + m * 16 * S::kQkBytes + at);
  }

  static __device__ void multiply(int (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    if constexpr (S::kInt4) {
      mma_int4(d, a, b0, b1);
    } else {
      mma_int8(d, a, b0, b1);
    }
  }

  // Puts `instead` where a row does not see a key.
  template <class T>
  static __device__ void mask(T (&x)[kKeyTiles][4], int m, const TileScale& t, T instead) {
    const int lane = lane_index();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int query = t.first_query + m * 16 + accumulator_row(lane, 2 * r);
      const int visible = visible_keys(t.lengths, query) - t.first_key - accumulator_column(lane, 0);
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n) {
        if (n * 8 >= visible) x[n][2 * r] = instead;
        if (n * 8 + 1 >= visible) x[n][2 * r + 1] = instead;
      }
    }
  }

  // Takes the largest of a thread's scores to the row's new maximum. Rows that have seen no key stay at a
  // finite one, so that no difference of infinities arises.
  __device__ void raise(int m, int r, float largest) {
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
    const float before = top[m][r];
    top[m][r] = fmaxf(before, largest);
    decay[m][r] = exp2_fast(before - top[m][r]);
  }

  // The maximum is taken of the integers: the factor is positive, and integers compare at full rate.
  __device__ void exponentials(float (&x)[kKeyTiles][4], int m, const TileScale& t) {
    int(&s)[kKeyTiles][4] = scores[m];
    if (t.masked) mask(s, m, t, INT_MIN);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      int most = s[0][2 * r];
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n) most = max(most, max(s[n][2 * r], s[n][2 * r + 1]));
      raise(m, r, most == INT_MIN ? kLowest : most * t.sigma);
    }
#pragma unroll
    for (int i = 0; i < kKeyTiles * 4; ++i) {
      x[i / 4][i % 4] = exp2_fast(fmaf(s[i / 4][i % 4], t.sigma, S::kLog2P - top[m][i % 4 / 2]));
    }
    if (t.masked) mask(x, m, t, 0.f);
  }

  // The same where each column has a term of its own: with it, scores become floats, and stay in place.
  __device__ void add_delta(const TileScale& t) {
    const uint32_t delta = t.delta + lane_index() % 4 * 8;
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n) {
      const float2 d = load_pair(delta + n * 32);
      const float log2_d[2] = {d.x * t.log2_scale, d.y * t.log2_scale};
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        int& score = scores[i / 4][n][i % 4];
        score = __float_as_int(fmaf(score, t.sigma, log2_d[i % 2]));
      }
    }
  }

  __device__ void exponentials_of_sums(float (&x)[kKeyTiles][4], int m, const TileScale& t) {
#pragma unroll
    for (int i = 0; i < kKeyTiles * 4; ++i) x[i / 4][i % 4] = __int_as_float(scores[m][i / 4][i % 4]);
    if (t.masked) mask(x, m, t, -INFINITY);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float most = kLowest;
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n) most = fmaxf(most, fmaxf(x[n][2 * r], x[n][2 * r + 1]));
      raise(m, r, most);
    }
#pragma unroll
    for (int i = 0; i < kKeyTiles * 4; ++i) {
      x[i / 4][i % 4] = exp2_fast(x[i / 4][i % 4] + (S::kLog2P - top[m][i % 4 / 2]));
    }
  }

  // Each thread sums its own columns; finish() brings the four of a row together.
  __device__ void add(const float (&x)[kKeyTiles][4], int m) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float of_tile = 0;
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n) of_tile += x[n][2 * r] + x[n][2 * r + 1];
      sum[m][r] = fmaf(sum[m][r], decay[m][r], of_tile);
    }
  }

  __device__ void pack(const float (&x)[kKeyTiles][4], int m) {
#pragma unroll
    for (int step = 0; step < S::kPvSteps; ++step) {
#pragma unroll
      for (int reg = 0; reg < 4; ++reg) {
        if constexpr (S::kFp8) {
          const Pair from = fp8_source(step, reg);
          const float(&low)[4] = x[from.tile], (&high)[4] = x[from.tile + 1];
          p[m][step][reg] =
              pack_fp8(low[from.element], low[from.element + 1], high[from.element], high[from.element + 1]);
        } else {
          const Pair from = half_source(step, reg);
          p[m][step][reg] = pack_half(x[from.tile][from.element], x[from.tile][from.element + 1]);
        }
      }
    }
  }

  // The row sums of the rounded P: its product with a column of ones, in every column alike.
  __device__ void add_by_matrix() {
    constexpr uint32_t kOnes = S::kFp8 ? 0x38383838u : 0x3c003c00u;
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      float of_tile[4] = {};
#pragma unroll
      for (int step = 0; step < S::kPvSteps; ++step) {
        if constexpr (S::kFp8) {
          mma_fp8(of_tile, p[m][step], kOnes, kOnes);
        } else {
          mma_half(of_tile, p[m][step], kOnes, kOnes);
        }
      }
#pragma unroll
      for (int r = 0; r < 2; ++r) sum[m][r] = fmaf(sum[m][r], decay[m][r], of_tile[2 * r]);
    }
  }

  // Straight into the fp32 accumulators. They decay only where a row of the warp has a new maximum.
  __device__ void accumulate_half(uint32_t v) {
    const bool still = decay[0][0] == 1 && decay[0][1] == 1 && decay[1][0] == 1 && decay[1][1] == 1;
    if (!__all_sync(0xffffffffu, still)) {
#pragma unroll
      for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int i = 0; i < S::kDim / 2; ++i) o[m][i / 4][i % 4] *= decay[m][i % 4 / 2];
      }
    }
    const int b_at = b_offset(lane_index(), S::kVBytes);
#pragma unroll
    for (int step = 0; step < S::kPvSteps; ++step) {
#pragma unroll
      for (int n = 0; n < S::kDim / 8; n += 2) {
        __syncwarp();
        uint32_t b[4];
        load_matrices(b, v + n * 8 * S::kVBytes + step_offset(b_at, step));
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          mma_half(o[m][n], p[m][step], b[0], b[1]);
          mma_half(o[m][n + 1], p[m][step], b[2], b[3]);
        }
      }
    }
  }

  // P times 8 channels of V, of this tile alone. at: where in shared memory this lane points ldmatrix.
  __device__ void multiply_columns(float (&of_tile)[2][4], uint32_t at) {
    static_assert(!S::kFp8 || S::kPvSteps == 2);
    uint32_t b[4], half[2][2] = {};
    load_matrices(b, at);
#pragma unroll
    for (int i = 0; i < 8; ++i) of_tile[i / 4][i % 4] = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int step = i / 2, m = i % 2;
      if constexpr (S::kHalfSums) {
        mma_fp8_half(half[m], p[m][step], b[2 * step], b[2 * step + 1]);
      } else {
        mma_fp8(of_tile[m], p[m][step], b[2 * step], b[2 * step + 1]);
      }
    }
    if constexpr (S::kHalfSums) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 x = unpack_half(half[i / 2][i % 2]);
        of_tile[i / 2][i % 2 * 2] = x.x;
        of_tile[i / 2][i % 2 * 2 + 1] = x.y;
      }
    }
  }

  // Two levels: the tensor cores' accumulators, which round coarsely, hold one tile of keys only.
  template <bool kScaled>
  __device__ void accumulate_fp8(uint32_t v, uint32_t v_scale) {
    // The compiler would begin more of these products early than there are registers for, but does not move
    // them past a barrier. Hopper has no FP8 in mma.sync, and needs registers to make do without.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 900
    constexpr int kAtOnce = 1;
#else
    constexpr int kAtOnce = S::kInt4 ? 8 : 4;
#endif
    const int lane = lane_index();
    const uint32_t at = v + row_offset(lane, S::kVBytes);
#pragma unroll
    for (int n = 0; n < S::kDim / 8; ++n) {
      if (n % kAtOnce == 0) __syncwarp();
      float of_tile[2][4];
      multiply_columns(of_tile, at + n * 8 * S::kVBytes);
      float2 scale = {1, 1};
      if constexpr (kScaled) scale = load_pair(v_scale + n * 32 + lane % 4 * 8);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int m = i / 4, e = i % 4;
        float& to = o[m][n][e];
        if constexpr (kScaled) {
          to = fmaf(of_tile[m][e], e % 2 ? scale.y : scale.x, to * decay[m][e / 2]);
        } else {
          to = fmaf(to, decay[m][e / 2], of_tile[m][e]);
        }
      }
    }
  }
};

}  // namespace sagelab::attention::sage2::mma
