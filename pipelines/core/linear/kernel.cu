// SPDX-License-Identifier: Apache-2.0
#include <cuda_fp8.h>

#include "attention/device/pack.cuh"
#include "pipelines/core/linear/kernel.h"

namespace sagelab::kernel {
namespace {

constexpr int kThreads = 256;
constexpr float kLargest = 448;

// Over the block; every thread gets it. NaN counts as nothing here, and stays NaN in the values.
__device__ float block_max(float x) {
  __shared__ float partial[kThreads / 32];
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
  __syncthreads();
  float largest = 0;
#pragma unroll
  for (int i = 0; i < kThreads / 32; ++i) largest = fmaxf(largest, partial[i]);
  return largest;
}

// One block a row. The second look finds the row in the cache.
__global__ __launch_bounds__(kThreads) void quantize_rows_kernel(
    const __grid_constant__ QuantizeRowsParams p) {
  const int64_t row = blockIdx.x, from = row * p.x_row;
  float largest = 0;
  for (int column = threadIdx.x * kVector; column < p.dim; column += kThreads * kVector) {
    const Pack<__nv_bfloat16> pack = load_pack<__nv_bfloat16>(p.x, from + column);
#pragma unroll
    for (int i = 0; i < kVector; ++i) largest = fmaxf(largest, fabsf(pack[i]));
  }
  largest = block_max(largest);
  const float scale = largest == 0 ? 1.f : __fdiv_rn(largest, kLargest);
  if (threadIdx.x == 0) p.scale[row] = scale;
  auto* values = static_cast<__nv_fp8x2_storage_t*>(p.values);
  for (int column = threadIdx.x * kVector; column < p.dim; column += kThreads * kVector) {
    const Pack<__nv_bfloat16> pack = load_pack<__nv_bfloat16>(p.x, from + column);
    alignas(8) __nv_fp8x2_storage_t rounded[kVector / 2];
#pragma unroll
    for (int i = 0; i < kVector / 2; ++i) {
      const float2 pair{__fdiv_rn(pack[2 * i], scale), __fdiv_rn(pack[2 * i + 1], scale)};
      rounded[i] = __nv_cvt_float2_to_fp8x2(pair, __NV_SATFINITE, __NV_E4M3);
    }
    *reinterpret_cast<uint2*>(values + (row * p.dim + column) / 2) = *reinterpret_cast<const uint2*>(rounded);
  }
}

}  // namespace

cudaError_t launch_quantize_rows(const QuantizeRowsParams& p, cudaStream_t stream) {
  if (p.rows == 0) return cudaSuccess;
  quantize_rows_kernel<<<unsigned(p.rows), kThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace sagelab::kernel
