// SPDX-License-Identifier: Apache-2.0
#include "attention/sage2/mma/ptx.cuh"
#include "attention/study/accumulator/kernels.h"

namespace sagelab::attention::study {

namespace {

namespace mma = sage2::mma;

constexpr int kThreads = 128, kTiles = kProductColumns / 8;

struct Fp16 {
  static __device__ void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    mma::mma_half(d, a, b0, b1);
  }
};
struct Bf16 {
  static __device__ void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};
struct Fp8 {
  static __device__ void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    mma::mma_fp8(d, a, b0, b1);
  }
};

// Where an element of D lies does not matter: every one gets the same product.
template <class T>
__global__ void __launch_bounds__(kThreads) probe_kernel(ProbeParams params) {
  const bool first = threadIdx.x % 4 == 0;  // holds the first column of A and the first row of B
  const uint32_t a[4] = {first ? params.a : 0, first ? params.a : 0, 0, 0}, b = first ? params.b : 0;
  const int64_t block = int64_t(blockIdx.x) * kProbeBlock;
  for (int i = threadIdx.x * 4; i < kProbeBlock; i += kThreads * 4) {
    float d[4];
    for (int j = 0; j < 4; ++j) d[j] = params.d[block + i + j];
    T::multiply(d, a, b, 0);
    for (int j = 0; j < 4; ++j) params.out[block + i + j] = d[j];
  }
}

__device__ uint32_t word(const uint8_t* row, int64_t byte) {
  return *reinterpret_cast<const uint32_t*>(row + byte);
}

template <class T>
__global__ void __launch_bounds__(kThreads) product_kernel(ProductParams params) {
  const int lane = threadIdx.x % 32, byte = lane % 4 * 4;
  const int64_t pitch = params.steps * kStepBytes,
                row = int64_t(blockIdx.x) * kProductRows + threadIdx.x / 32 * 16 + lane / 4;
  const uint8_t *p = params.p + row * pitch, *v = params.v + lane / 4 * pitch;
  float sum[kTiles][4] = {}, part[kTiles][4] = {};
  for (int64_t step = 0; step < params.steps; ++step) {
    const int64_t at = step * kStepBytes + byte;
    const uint32_t a[4] = {word(p, at), word(p + 8 * pitch, at), word(p, at + 16),
                           word(p + 8 * pitch, at + 16)};
    const bool flush = (step + 1) % params.flush_steps == 0 || step + 1 == params.steps;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint8_t* column = v + tile * 8 * pitch;
      T::multiply(part[tile], a, word(column, at), word(column, at + 16));
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (!flush) continue;
        sum[tile][j] += part[tile][j];
        part[tile][j] = 0;
      }
    }
  }
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    for (int j = 0; j < 4; ++j) {
      const int64_t to = row + j / 2 * 8;
      params.out[to * kProductColumns + tile * 8 + lane % 4 * 2 + j % 2] = sum[tile][j];
    }
  }
}

template <class T>
cudaError_t probe(const ProbeParams& params, cudaStream_t stream) {
  probe_kernel<T><<<unsigned(params.count / kProbeBlock), kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

template <class T>
cudaError_t product(const ProductParams& params, cudaStream_t stream) {
  product_kernel<T><<<unsigned(params.rows / kProductRows), kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_probe_mma(Instruction instruction, const ProbeParams& params, cudaStream_t stream) {
  switch (instruction) {
    case Instruction::MmaFp16:
      return probe<Fp16>(params, stream);
    case Instruction::MmaBf16:
      return probe<Bf16>(params, stream);
    case Instruction::MmaFp8:
      return probe<Fp8>(params, stream);
    case Instruction::WgmmaFp8:
      break;
  }
  return cudaErrorInvalidValue;
}

cudaError_t launch_product_mma(Instruction instruction, const ProductParams& params, cudaStream_t stream) {
  switch (instruction) {
    case Instruction::MmaFp16:
      return product<Fp16>(params, stream);
    case Instruction::MmaBf16:
      return product<Bf16>(params, stream);
    case Instruction::MmaFp8:
      return product<Fp8>(params, stream);
    case Instruction::WgmmaFp8:
      break;
  }
  return cudaErrorInvalidValue;
}

}  // namespace sagelab::attention::study
