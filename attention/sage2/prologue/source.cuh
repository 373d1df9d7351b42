// SPDX-License-Identifier: Apache-2.0
// What the kernels of the prologue share: where a token's row is, and how threads divide a tile.
#pragma once

#include <cfloat>
#include <cmath>

#include "attention/device/row.cuh"
#include "attention/sage2/kernels.h"

namespace sagelab::attention::sage2 {

using sagelab::kernel::kVector;
using sagelab::kernel::load_row;
using sagelab::kernel::RowAt;

constexpr int kThreads = 256;

enum class Stream { Q, K, V };

// kLanes threads of 8 channels share a row; kThreads / kLanes rows are worked on at once.
template <class T, int kLanes>
struct Source {
  const PrologueParams& p;

  static constexpr int kDim = kLanes * kVector;
  static constexpr int kRowsAtOnce = kThreads / kLanes;
  static __device__ int column() { return threadIdx.x % kLanes * kVector; }
  static __device__ int row() { return threadIdx.x / kLanes; }

  __device__ int64_t length(Stream s) const { return s == Stream::Q ? p.shape.q_len : p.shape.kv_len; }

  // Row `token` of all runs, fp32; zeros beyond the last.
  __device__ void load(float (&x)[kVector], Stream s, int batch, int head, int64_t token) const {
    const bool active = token < length(s) && column() < p.shape.head_dim;
    const Run* run = s == Stream::Q ? p.q : s == Stream::K ? p.k : p.v;
    for (int left = (s == Stream::Q ? p.q_runs : p.kv_runs) - 1; left > 0 && token >= run[1].begin; --left)
      ++run;
    const RowAt at{batch, token - run->begin, head, column(), p.shape.head_dim, active};
    load_row<T, kLanes>(x, run->rows, run->rotation, at);
  }
};

__device__ inline bool finite(float x) {
  return fabsf(x) <= FLT_MAX;
}

// What to multiply by and what to divide by so that amax becomes `range`.
struct Step {
  float inverse, scale;
};
__device__ inline Step step_of(float amax, float range) {
  if (amax < 1e-35f) return {0, 0};
  return {__fdiv_rn(range, amax), __fdiv_rn(amax, range)};
}

// fp16 needs no scale, but a power of two where values would overflow.
__device__ inline Step half_step_of(float amax) {
  float scale = 1;
  while (amax > 32768.f * scale) scale *= 2;
  return {1 / scale, scale};
}

__device__ inline Step v_step_of(float amax, Pv pv) {
  return pv == Pv::Fp16 ? half_step_of(amax) : step_of(amax, pv == Pv::Fp8 ? 448.f : 2.25f);
}

}  // namespace sagelab::attention::sage2
