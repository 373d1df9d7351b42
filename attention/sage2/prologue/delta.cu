// SPDX-License-Identifier: Apache-2.0
// What smoothing Q takes away from the scores (SageAttention2, equation 2): the mean of each tile of queries
// times every smoothed key.
#include "attention/sage2/prologue/dispatch.cuh"
#include "attention/sage2/prologue/stages.h"

namespace sagelab::attention::sage2 {
namespace {

// blockIdx: tile of keys, kv head, batch. kLanes threads share a key; its part of the product stays in
// registers while all tiles of queries pass.
template <class T, int kLanes>
__global__ __launch_bounds__(kThreads) void delta_kernel(const __grid_constant__ PrologueParams p) {
  using From = Source<T, kLanes>;
  const AttentionParams& shape = p.shape;
  const int keys = kv_rows(shape.settings.arch), column = From::column(),
            group = shape.heads / shape.kv_heads;
  const int64_t kv_tiles = tiles(shape.kv_len, keys), q_tiles = tiles(shape.q_len, kQRows);
  const int64_t kv = int64_t(blockIdx.z) * shape.kv_heads + blockIdx.y;
  Reader<From, Stream::K> rows(p, blockIdx.z, blockIdx.y);
  for (int row = From::row(); row < keys; row += From::kRowsAtOnce) {
    const int64_t token = int64_t(blockIdx.x) * keys + row;
    float x[kVector];
    rows.load(x, token);
    const bool there = token < shape.kv_len;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      if (!finite(x[i])) x[i] = 0;
      if (there && p.x.k_mean) x[i] -= p.x.k_mean[kv * From::kDim + column + i];
    }
    for (int h = 0; h < group; ++h) {
      const int64_t first = (int64_t(blockIdx.z) * shape.heads + blockIdx.y * group + h) * q_tiles;
      for (int64_t tile = 0; tile < q_tiles; ++tile) {
        const float* mean = p.x.q_mean + (first + tile) * From::kDim + column;
        float dot = 0;
#pragma unroll
        for (int i = 0; i < kVector; ++i) dot = fmaf(x[i], mean[i], dot);
        dot = sagelab::kernel::row_sum<kLanes>(dot);
        if (column == 0) p.x.delta[(first + tile) * kv_tiles * keys + token] = dot;
      }
    }
  }
}

}  // namespace

cudaError_t launch_delta(const PrologueParams& params, cudaStream_t stream) {
  const AttentionParams& shape = params.shape;
  if (!params.x.delta) return cudaSuccess;
  const dim3 grid(unsigned(tiles(shape.kv_len, kv_rows(shape.settings.arch))), shape.kv_heads, shape.batch);
  return dispatch(shape, [&]<class T, int kLanes>() {
    delta_kernel<T, kLanes><<<grid, kThreads, 0, stream>>>(params);
    return cudaGetLastError();
  });
}

}  // namespace sagelab::attention::sage2
