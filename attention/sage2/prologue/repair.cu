// SPDX-License-Identifier: Apache-2.0
// Rows that no quantization represents: queries that are not finite, and all queries of heads with such keys
// or values, computed in fp32 from the sources as SDPA would. Slow, and a glance at the flags where there are
// none.
#include <algorithm>

#include "attention/sage2/prologue/dispatch.cuh"
#include "attention/sage2/prologue/stages.h"

namespace sagelab::attention::sage2 {
namespace {

// The running softmax of the keys that one group of kLanes threads has seen.
struct Partial {
  float most = -INFINITY, sum = 0, out[kVector] = {};

  __device__ void add(float score, const float (&v)[kVector]) {
    if (score == -INFINITY) return;
    const float now = fmaxf(most, score);
    const float old = most == -INFINITY ? 0.f : expf(most - now), weight = expf(score - now);
    most = score != score ? score : now;  // fmaxf drops NaN
    sum = sum * old + weight;
#pragma unroll
    for (int i = 0; i < kVector; ++i) out[i] = out[i] * old + weight * v[i];
  }
  // Joins what the thread `offset` away has.
  __device__ void join(int offset) {
    const float other = __shfl_xor_sync(0xffffffffu, most, offset);
    const bool bad = most != most || other != other;
    const float now = bad ? NAN : fmaxf(most, other);
    const float mine = most == -INFINITY ? 0.f : expf(most - now),
                theirs = other == -INFINITY ? 0.f : expf(other - now);
    sum = sum * mine + __shfl_xor_sync(0xffffffffu, sum, offset) * theirs;
#pragma unroll
    for (int i = 0; i < kVector; ++i)
      out[i] = out[i] * mine + __shfl_xor_sync(0xffffffffu, out[i], offset) * theirs;
    most = now;
  }
};

template <class T>
__device__ void store(const AttentionParams& shape, const RowAt& at, int column, const float (&x)[kVector]) {
  const Destination* to = shape.to;
  while (at.token >= to->end) ++to;
  const int64_t start =
      at.batch * to->batch + (at.token - to->begin) * to->token + at.head * to->head + column;
  T* out = static_cast<T*>(to->out) + start;
#pragma unroll
  for (int i = 0; i < kVector; ++i) sagelab::kernel::from_float(x[i], out[i]);
}

// One warp: a query against every key it sees.
template <class T, int kLanes>
__device__ void repair_row(const PrologueParams& p, const RowAt& at, float (&q)[kVector]) {
  using From = Source<T, kLanes>;
  const AttentionParams& shape = p.shape;
  const int lane = threadIdx.x % 32, kv_head = at.head / (shape.heads / shape.kv_heads),
            column = From::column();
  const int64_t end =
      shape.causal ? min(at.token + shape.kv_len - shape.q_len + 1, shape.kv_len) : shape.kv_len;
  Reader<From, Stream::K> keys(p, int(at.batch), kv_head);
  Reader<From, Stream::V> values(p, int(at.batch), kv_head);
  Partial partial;
  for (int64_t base = 0; base < end; base += 32 / kLanes) {
    const int64_t key = base + lane / kLanes;
    float k[kVector], v[kVector], dot = 0;
    keys.load(k, key < end ? key : shape.kv_len);
    values.load(v, key < end ? key : shape.kv_len);
    if (column < shape.head_dim) {
#pragma unroll
      for (int i = 0; i < kVector; ++i) dot += q[i] * k[i];
    }
    dot = sagelab::kernel::row_sum<kLanes>(dot);
    if (key < end) partial.add(dot * shape.scale, v);
  }
  for (int offset = kLanes; offset < 32; offset *= 2) partial.join(offset);
  const bool none = partial.sum == 0 && end <= 0;
#pragma unroll
  for (int i = 0; i < kVector; ++i) partial.out[i] = none ? 0.f : partial.out[i] / partial.sum;
  if (lane < kLanes && column < shape.head_dim) store<T>(shape, at, column, partial.out);
  if (shape.lse && lane == 0) {
    const int64_t index = (at.batch * shape.heads + at.head) * shape.q_len + at.token;
    shape.lse[index] = none ? -INFINITY : partial.most + logf(partial.sum);
  }
}

__device__ bool any(const uint8_t* flags, int64_t count) {
  bool odd = false;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) odd = odd || flags[i];
  return __syncthreads_or(odd);
}

// blockIdx: one of the blocks that share the tiles of queries, head, batch.
template <class T, int kLanes>
__global__ __launch_bounds__(kThreads) void repair_kernel(const __grid_constant__ PrologueParams p) {
  using From = Source<T, kLanes>;
  const AttentionParams& shape = p.shape;
  const int head = blockIdx.y, kv_head = head / (shape.heads / shape.kv_heads);
  const int64_t kv_tiles = tiles(shape.kv_len, kv_rows(shape.settings.arch)),
                q_tiles = tiles(shape.q_len, kQRows);
  const bool odd_keys =
      any(p.x.kv_odd + (int64_t(blockIdx.z) * shape.kv_heads + kv_head) * kv_tiles, kv_tiles);
  const uint8_t* q_odd = p.x.q_odd + (int64_t(blockIdx.z) * shape.heads + head) * q_tiles;
  for (int64_t tile = blockIdx.x; tile < q_tiles; tile += gridDim.x) {
    if (!odd_keys && !q_odd[tile]) continue;
    Reader<From, Stream::Q> queries(p, blockIdx.z, head);
    for (int row = threadIdx.x / 32; row < kQRows; row += kThreads / 32) {
      const RowAt at{blockIdx.z, tile * kQRows + row, head};
      if (at.token >= shape.q_len) break;
      float q[kVector];
      queries.load(q, at.token);
      bool odd = false;
#pragma unroll
      for (int i = 0; i < kVector; ++i) odd = odd || !finite(q[i]);
      if (odd_keys || __any_sync(0xffffffffu, odd)) repair_row<T, kLanes>(p, at, q);
    }
  }
}

}  // namespace

cudaError_t launch_repair(const PrologueParams& params, cudaStream_t stream) {
  const AttentionParams& shape = params.shape;
  // Enough to fill the chip where there is work, and not more, since mostly there is none.
  constexpr int64_t kBlocks = 512;
  const int64_t heads = int64_t(shape.heads) * shape.batch, q_tiles = tiles(shape.q_len, kQRows);
  const int64_t share = std::clamp<int64_t>(kBlocks / heads, 1, q_tiles);
  const dim3 grid(unsigned(share), shape.heads, shape.batch);
  return dispatch(shape, [&]<class T, int kLanes>() {
    repair_kernel<T, kLanes><<<grid, kThreads, 0, stream>>>(params);
    return cudaGetLastError();
  });
}

}  // namespace sagelab::attention::sage2
