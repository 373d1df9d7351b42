// SPDX-License-Identifier: Apache-2.0
#include "attention/device/row.cuh"
#include "attention/fused/gather.h"

namespace sagelab::attention::kernel {
namespace {

using sagelab::kernel::kVector;
using sagelab::kernel::load_row;
using sagelab::kernel::Pack;
using sagelab::kernel::RowAt;
using sagelab::kernel::store_pack;

constexpr int kThreads = 256;

// blockIdx.y is the stream (q, k, v). kLanes threads share a row of head_dim <= 8 kLanes elements; rows run
// over heads first, so that neighbouring rows are neighbours in memory.
template <class T, int kLanes>
__global__ __launch_bounds__(kThreads) void gather_kernel(const __grid_constant__ GatherParams p) {
  const Stream& s = p.streams[blockIdx.y];
  if (!s.out) return;
  const int64_t row = int64_t(blockIdx.x) * (kThreads / kLanes) + threadIdx.x / kLanes;
  const int column = threadIdx.x % kLanes * kVector;
  const int64_t rows = int64_t(p.batch) * p.tokens * s.in.heads;
  // Whole warps take part in the shuffles; those beyond the end only lend their lanes.
  const bool active = row < rows && column < p.head_dim;
  const RowAt at{row / s.in.heads / p.tokens,
                 row / s.in.heads % p.tokens,
                 int(row % s.in.heads),
                 column,
                 p.head_dim,
                 active};
  float x[kVector];
  load_row<T, kLanes>(x, s.in, p.rotation, at);
  if (!active) return;
  Pack<T> out;
#pragma unroll
  for (int i = 0; i < kVector; ++i) out.set(i, x[i]);
  store_pack(s.out, at.batch * s.out_batch + at.token * s.out_token + int64_t(at.head) * p.head_dim + column,
             out);
}

template <class T>
cudaError_t launch(const GatherParams& p, cudaStream_t stream) {
  int heads = 0;
  for (const Stream& s : p.streams) heads = s.out && s.in.heads > heads ? s.in.heads : heads;
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
