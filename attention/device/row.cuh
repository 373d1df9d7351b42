// SPDX-License-Identifier: Apache-2.0
// One row of q, k or v, loaded, normed and rotated in fp32 by kLanes neighbouring threads of 8 elements each.
#pragma once

#include "attention/device/pack.cuh"
#include "attention/device/row.h"

namespace sagelab::kernel {

// The elements [column, column + 8) of a row of head_dim.
struct RowAt {
  int64_t batch, token;
  int head, column, head_dim;
  bool active;  // or the thread only lends its lane, and gets zeros
};

// Sum over the kLanes neighbouring threads that share a row. Rows of one warp may take different ways here.
template <int kLanes>
__device__ float row_sum(float x) {
  const unsigned first = threadIdx.x % 32 / kLanes * kLanes;
  const unsigned mask = (0xffffffffu >> (32 - kLanes)) << first;
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(mask, x, offset);
  return x;
}

template <int kLanes>
__device__ void normalise(float (&x)[kVector], const Rows& rows, const RowAt& at) {
  const float share = 1.f / at.head_dim;
  float mean = 0, square = 0;
  if (rows.norm == NormKind::Layer) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) mean += x[i];
    mean = row_sum<kLanes>(at.active ? mean : 0.f) * share;
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) square += (x[i] - mean) * (x[i] - mean);
  const float inverse = rsqrtf(row_sum<kLanes>(at.active ? square : 0.f) * share + rows.eps);
  if (!at.active) return;
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    x[i] = (x[i] - mean) * inverse;
    if (rows.weight) x[i] *= rows.weight[at.column + i];
    if (rows.bias) x[i] += rows.bias[at.column + i];
  }
}

// Cosines, then sines, of the angles of positions times frequencies. Not inlined: long, and rare.
static __device__ __noinline__ void turn(float* cosines, const Rotation& r, const RowAt& at) {
  const int half = at.head_dim / 2, pair = at.column / 2;
  for (int i = 0; i < kVector / 2; ++i) {
    float angle = 0;
    for (int axis = 0; axis < 3; ++axis) {
      const int64_t of = (int64_t(axis) * r.frequency_heads + at.head) * half + pair + i;
      angle += r.positions[at.token * 3 + axis] * r.frequencies[of];
    }
    sincosf(angle, &cosines[kVector / 2 + i], &cosines[i]);
  }
}

// c: cosines, then sines.
__device__ inline void rotate_pairs(float (&x)[kVector], const float (&c)[kVector]) {
#pragma unroll
  for (int i = 0; i < kVector / 2; ++i) {
    const float even = x[2 * i], odd = x[2 * i + 1], sine = c[kVector / 2 + i];
    x[2 * i] = even * c[i] - odd * sine;
    x[2 * i + 1] = odd * c[i] + even * sine;
  }
}

__device__ inline void rotate(float (&x)[kVector], const Rotation& r, const RowAt& at) {
  float c[kVector];
  if (r.cos) {
    const int64_t first = at.token * (at.head_dim / 2) + at.column / 2;
    *reinterpret_cast<float4*>(c) = *reinterpret_cast<const float4*>(r.cos + first);
    *reinterpret_cast<float4*>(c + kVector / 2) = *reinterpret_cast<const float4*>(r.sin + first);
  } else {
    float computed[kVector];
    turn(computed, r, at);
#pragma unroll
    for (int i = 0; i < kVector; ++i) c[i] = computed[i];
  }
  rotate_pairs(x, c);
}

// Norm and rotation of one thread's elements of a row, in fp32. All kLanes threads of a row call.
template <int kLanes>
__device__ void finish_row(float (&x)[kVector], const Rows& rows, const Rotation& rotation, const RowAt& at) {
  if (rows.norm != NormKind::None) normalise<kLanes>(x, rows, at);
  if (at.active && rows.rotate) rotate(x, rotation, at);
}

// The same from memory; zeros where not active.
template <class T, int kLanes>
__device__ void load_row(float (&x)[kVector], const Rows& rows, const Rotation& rotation, const RowAt& at) {
#pragma unroll
  for (int i = 0; i < kVector; ++i) x[i] = 0;
  if (at.active) {
    const int64_t first = at.batch * rows.batch + at.token * rows.token + at.head * rows.head + at.column;
    const Pack<T> in = load_pack<T>(rows.data, first);
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[i] = in[i];
  }
  finish_row<kLanes>(x, rows, rotation, at);
}

}  // namespace sagelab::kernel
