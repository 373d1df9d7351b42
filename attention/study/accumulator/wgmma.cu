// SPDX-License-Identifier: Apache-2.0
#include "attention/sage2/layout.h"
#include "attention/sage2/wgmma/wgmma.cuh"
#include "attention/study/accumulator/kernels.h"

namespace sagelab::attention::study {

namespace {

constexpr int kThreads = 128;                 // a warpgroup
constexpr int kRowBytes = 64;                 // of a tile of B in shared memory: two steps
constexpr int kValues = kProductColumns / 2;  // of an accumulator [64, 64] in each thread

struct alignas(1024) Tile {
  uint8_t bytes[kProductColumns * kRowBytes];
};

// What the threads wrote to shared memory is seen by the products that follow.
__device__ void publish() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
}

// d += a b^T, waited for.
__device__ void multiply(float (&d)[kValues], const uint32_t (&a)[4], uint64_t b, bool add) {
  sage2::pin(d);
  sage2::products_begin();
  sage2::multiply_values(d, a, b, add);
  sage2::products_commit();
  sage2::products_wait<0>();
  sage2::pin(d);
}

// Where an element of D lies does not matter: every one gets the same product.
__global__ void __launch_bounds__(kThreads) probe_kernel(ProbeParams params) {
  __shared__ Tile tile;
  for (int i = threadIdx.x; i < int(sizeof tile.bytes); i += kThreads) tile.bytes[i] = 0;
  __syncthreads();
  if (threadIdx.x < kProductColumns)
    tile.bytes[sage2::swizzled(threadIdx.x, 0, kRowBytes)] = uint8_t(params.b);
  publish();
  const uint32_t first = threadIdx.x % 4 == 0 ? params.a : 0;  // holds the first column of A
  const uint32_t a[4] = {first, first, 0, 0};
  const int64_t block = int64_t(blockIdx.x) * kProbeBlock;
  for (int i = threadIdx.x * kValues; i < kProbeBlock; i += kThreads * kValues) {
    float d[kValues];
#pragma unroll
    for (int j = 0; j < kValues; ++j) d[j] = params.d[block + i + j];
    multiply(d, a, sage2::tile_descriptor<kRowBytes>(tile.bytes), true);
#pragma unroll
    for (int j = 0; j < kValues; ++j) params.out[block + i + j] = d[j];
  }
}

__device__ uint32_t word(const uint8_t* row, int64_t byte) {
  return *reinterpret_cast<const uint32_t*>(row + byte);
}

// One step of v, to the first 32 bytes of each row of the tile.
__device__ void load_tile(const ProductParams& params, int64_t step, Tile& tile) {
  const int row = threadIdx.x / 2, half = threadIdx.x % 2 * 16;
  const uint8_t* from = params.v + (row * params.steps + step) * kStepBytes + half;
  *reinterpret_cast<uint4*>(tile.bytes + sage2::swizzled(row, half, kRowBytes)) =
      *reinterpret_cast<const uint4*>(from);
}

__global__ void __launch_bounds__(kThreads) product_kernel(ProductParams params) {
  __shared__ Tile tile;
  const int lane = threadIdx.x % 32, byte = lane % 4 * 4;
  const int64_t pitch = params.steps * kStepBytes,
                row = int64_t(blockIdx.x) * kProductRows + threadIdx.x / 32 * 16 + lane / 4;
  const uint8_t* p = params.p + row * pitch;
  const uint64_t b = sage2::tile_descriptor<kRowBytes>(tile.bytes);
  float sum[kValues] = {}, part[kValues] = {};
  for (int64_t step = 0; step < params.steps; ++step) {
    const int64_t at = step * kStepBytes + byte;
    const uint32_t a[4] = {word(p, at), word(p + 8 * pitch, at), word(p, at + 16),
                           word(p + 8 * pitch, at + 16)};
    load_tile(params, step, tile);
    publish();
    multiply(part, a, b, step % params.flush_steps != 0);
    __syncthreads();
    const bool flush = (step + 1) % params.flush_steps == 0 || step + 1 == params.steps;
#pragma unroll
    for (int j = 0; j < kValues; ++j) sum[j] += flush ? part[j] : 0.f;
  }
#pragma unroll
  for (int j = 0; j < kValues; ++j) {
    const int64_t to = row + j % 4 / 2 * 8;
    params.out[to * kProductColumns + j / 4 * 8 + lane % 4 * 2 + j % 2] = sum[j];
  }
}

}  // namespace

cudaError_t launch_probe_wgmma(const ProbeParams& params, cudaStream_t stream) {
  probe_kernel<<<unsigned(params.count / kProbeBlock), kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

cudaError_t launch_product_wgmma(const ProductParams& params, cudaStream_t stream) {
  product_kernel<<<unsigned(params.rows / kProductRows), kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace sagelab::attention::study
