// SPDX-License-Identifier: Apache-2.0
#include "attention/device/pack.cuh"
#include "attention/fused/gather.h"

namespace sagelab::attention::kernel {
namespace {

using sagelab::kernel::kVector;
using sagelab::kernel::load_pack;
using sagelab::kernel::Pack;
using sagelab::kernel::store_pack;

constexpr int kThreads = 256;

// Sum over the kLanes neighbouring threads that share a row.
template <int kLanes>
__device__ float row_sum(float x) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

template <int kLanes>
__device__ void normalise(float (&x)[kVector], const Stream& s, int column, int head_dim, bool active) {
  float mean = 0;
  if (s.norm == NormKind::Layer) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kVector; ++i) sum += x[i];
    mean = row_sum<kLanes>(active ? sum : 0.f) / head_dim;
  }
  float square = 0;
#pragma unroll
  for (int i = 0; i < kVector; ++i) square += (x[i] - mean) * (x[i] - mean);
  const float inverse = rsqrtf(row_sum<kLanes>(active ? square : 0.f) / head_dim + s.eps);
  if (!active) return;
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    x[i] = (x[i] - mean) * inverse;
    if (s.weight) x[i] *= s.weight[column + i];
    if (s.bias) x[i] += s.bias[column + i];
  }
}

__device__ void rotate(float (&x)[kVector], const GatherParams& p, int64_t token, int head, int column) {
  const int half = p.head_dim / 2, pair = column / 2;
  float c[kVector / 2], s[kVector / 2];
  if (p.cos) {
    const int64_t at = token * half + pair;
    *reinterpret_cast<float4*>(c) = *reinterpret_cast<const float4*>(p.cos + at);
    *reinterpret_cast<float4*>(s) = *reinterpret_cast<const float4*>(p.sin + at);
  } else {
#pragma unroll
    for (int i = 0; i < kVector / 2; ++i) {
      float angle = 0;
#pragma unroll
      for (int axis = 0; axis < 3; ++axis) {
        const int64_t at = (int64_t(axis) * p.frequency_heads + head) * half + pair + i;
        angle += p.positions[token * 3 + axis] * p.frequencies[at];
      }
      sincosf(angle, &s[i], &c[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < kVector / 2; ++i) {
    const float even = x[2 * i], odd = x[2 * i + 1];
    x[2 * i] = even * c[i] - odd * s[i];
    x[2 * i + 1] = odd * c[i] + even * s[i];
  }
}

// blockIdx.y is the stream (q, k, v). kLanes threads share a row of head_dim <= 8 kLanes elements; rows run
// over heads first, so that neighbouring rows are neighbours in memory.
template <class T, int kLanes>
__global__ __launch_bounds__(kThreads) void gather_kernel(const __grid_constant__ GatherParams p) {
  const Stream& s = p.streams[blockIdx.y];
  if (!s.out) return;
  const int64_t row = int64_t(blockIdx.x) * (kThreads / kLanes) + threadIdx.x / kLanes;
  const int column = threadIdx.x % kLanes * kVector;
  const int64_t rows = int64_t(p.batch) * p.tokens * s.heads;
  // Whole warps take part in the shuffles; those beyond the end only lend their lanes.
  const bool active = row < rows && column < p.head_dim;
  const int head = int(row % s.heads);
  const int64_t token = row / s.heads % p.tokens, batch = row / s.heads / p.tokens;

  float x[kVector] = {};
  if (active) {
    const Pack<T> in =
        load_pack<T>(s.in, batch * s.in_batch + token * s.in_token + head * s.in_head + column);
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[i] = in[i];
  }
  if (s.norm != NormKind::None) normalise<kLanes>(x, s, column, p.head_dim, active);
  if (!active) return;
  if (s.rotate) rotate(x, p, token, head, column);
  Pack<T> out;
#pragma unroll
  for (int i = 0; i < kVector; ++i) out.set(i, x[i]);
  store_pack(s.out, batch * s.out_batch + token * s.out_token + int64_t(head) * p.head_dim + column, out);
}

template <class T>
cudaError_t launch(const GatherParams& p, cudaStream_t stream) {
  int heads = 0;
  for (const Stream& s : p.streams) heads = s.out && s.heads > heads ? s.heads : heads;
  const int64_t rows = int64_t(p.batch) * p.tokens * heads;
  if (rows == 0) return cudaSuccess;
  const auto go = [&]<int kLanes>() {
    const int64_t per_block = kThreads / kLanes;
    const dim3 grid(unsigned((rows + per_block - 1) / per_block), 3);
    gather_kernel<T, kLanes><<<grid, kThreads, 0, stream>>>(p);
    return cudaGetLastError();
  };
  if (p.head_dim <= 64) return go.template operator()<8>();
  if (p.head_dim <= 128) return go.template operator()<16>();
  return go.template operator()<32>();
}

}  // namespace

cudaError_t launch_gather(const GatherParams& params, Scalar scalar, cudaStream_t stream) {
  switch (scalar) {
    case Scalar::Float:
      return launch<float>(params, stream);
    case Scalar::Half:
      return launch<__half>(params, stream);
    case Scalar::BFloat16:
      return launch<__nv_bfloat16>(params, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace sagelab::attention::kernel
