// SPDX-License-Identifier: Apache-2.0
#include "attention/device/pack.cuh"
#include "pipelines/core/modulate/kernel.h"

namespace sagelab::kernel {
namespace {

constexpr int kThreads = 128;

__device__ float block_sum(float x) {
  __shared__ float partial[kThreads / 32];
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kThreads / 32; ++i) sum += partial[i];
  __syncthreads();
  return sum;
}

template <class Span>
__device__ const Span& span_of(const Span (&spans)[kMaxSpans], int count, int64_t row) {
  int i = 0;
  while (i + 1 < count && row >= spans[i].end) ++i;
  return spans[i];
}

// A block's row, zeros beyond its end.
template <class T, int kPacks>
__device__ void load_row(float (&x)[kPacks][kVector], const void* data, int64_t from, int dim) {
#pragma unroll
  for (int j = 0; j < kPacks; ++j) {
    const int column = (j * kThreads + threadIdx.x) * kVector;
    const bool active = column < dim;
    const Pack<T> pack = active ? load_pack<T>(data, from + column) : Pack<T>{};
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[j][i] = active ? pack[i] : 0.f;
  }
}

// One block per row, the row in registers: mean, then variance of the differences, then both affine maps.
template <class T, int kPacks>
__global__ __launch_bounds__(kThreads) void norm_modulate_kernel(
    const __grid_constant__ NormModulateParams p) {
  const int64_t row = blockIdx.x, batch = blockIdx.y;
  const int64_t from = batch * p.x_batch + row * p.x_row, to = (batch * p.rows + row) * p.dim;
  float x[kPacks][kVector];
  load_row<T>(x, p.x, from, p.dim);
  float sum = 0;
#pragma unroll
  for (int j = 0; j < kPacks; ++j) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) sum += x[j][i];
  }
  const float mean = block_sum(sum) / p.dim;
  float square = 0;
#pragma unroll
  for (int j = 0; j < kPacks; ++j) {
    if ((j * kThreads + threadIdx.x) * kVector >= p.dim) continue;
#pragma unroll
    for (int i = 0; i < kVector; ++i) square += (x[j][i] - mean) * (x[j][i] - mean);
  }
  const float inverse = rsqrtf(block_sum(square) / p.dim + p.eps);

  const ModulateSpan& span = span_of(p.span, p.spans, row);
#pragma unroll
  for (int j = 0; j < kPacks; ++j) {
    const int column = (j * kThreads + threadIdx.x) * kVector;
    if (column >= p.dim) continue;
    const Pack<T> scale = load_pack<T>(span.scale, batch * span.scale_batch + column);
    const Pack<T> shift = load_pack<T>(span.shift, batch * span.shift_batch + column);
    const Pack<T> weight = p.weight ? load_pack<T>(p.weight, column) : Pack<T>{};
    const Pack<T> bias = p.bias ? load_pack<T>(p.bias, column) : Pack<T>{};
    Pack<T> out;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      float y = (x[j][i] - mean) * inverse;
      if (p.weight) y *= weight[i];
      if (p.bias) y += bias[i];
      out.set(i, y * (1.f + scale[i]) + shift[i]);
    }
    store_pack(p.out, to + column, out);
  }
}

template <class T>
__global__ __launch_bounds__(kThreads) void add_gated_kernel(const __grid_constant__ AddGatedParams p) {
  const int64_t row = blockIdx.x, batch = blockIdx.y;
  const GateSpan& span = span_of(p.span, p.spans, row);
  for (int column = threadIdx.x * kVector; column < p.dim; column += kThreads * kVector) {
    const int64_t at = batch * p.x_batch + row * p.x_row + column;
    const Pack<T> x = load_pack<T>(p.x, at);
    const Pack<T> y = load_pack<T>(p.y, batch * p.y_batch + row * p.y_row + column);
    const Pack<T> gate = load_pack<T>(span.gate, batch * span.gate_batch + column);
    Pack<T> out;
#pragma unroll
    for (int i = 0; i < kVector; ++i) out.set(i, x[i] + gate[i] * y[i]);
    store_pack(p.x, at, out);
  }
}

// One block per row: the mean square, then the factor.
template <class T, int kPacks>
__global__ __launch_bounds__(kThreads) void rms_kernel(const __grid_constant__ RmsParams p) {
  const int64_t row = blockIdx.x, batch = blockIdx.y;
  float x[kPacks][kVector];
  load_row<T>(x, p.x, batch * p.x_batch + row * p.x_row, p.dim);
  float square = 0;
#pragma unroll
  for (int j = 0; j < kPacks; ++j) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) square += x[j][i] * x[j][i];
  }
  const float inverse = rsqrtf(block_sum(square) / p.dim + p.eps);
#pragma unroll
  for (int j = 0; j < kPacks; ++j) {
    const int column = (j * kThreads + threadIdx.x) * kVector;
    if (column >= p.dim) continue;
    const int64_t to = batch * p.out_batch + row * p.out_row + column;
    const Pack<T> factor = load_pack<T>(p.factor, batch * p.factor_batch + column);
    const Pack<T> before = p.adds ? load_pack<T>(p.out, to) : Pack<T>{};
    Pack<T> out;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float y = x[j][i] * inverse;
      out.set(i, p.adds ? before[i] + y * tanhf(factor[i]) : y * (1.f + factor[i]));
    }
    store_pack(p.out, to, out);
  }
}

template <class T>
__global__ __launch_bounds__(kThreads) void swiglu_kernel(const __grid_constant__ SwigluParams p) {
  const int64_t from = int64_t(blockIdx.y) * p.x_batch + int64_t(blockIdx.x) * p.x_row;
  for (int column = threadIdx.x * kVector; column < p.dim; column += kThreads * kVector) {
    const Pack<T> value = load_pack<T>(p.x, from + column), gate = load_pack<T>(p.x, from + p.dim + column);
    Pack<T> out;
#pragma unroll
    for (int i = 0; i < kVector; ++i) out.set(i, value[i] * (gate[i] / (1.f + expf(-gate[i]))));
    store_pack(p.x, from + column, out);
  }
}

// Calls f<kPacks>() for rows of dim elements.
template <class F>
cudaError_t with_packs(int dim, F f) {
  const int packs = (dim / kVector + kThreads - 1) / kThreads;
  if (packs <= 1) return f.template operator()<1>();
  if (packs <= 2) return f.template operator()<2>();
  if (packs <= 3) return f.template operator()<3>();
  if (packs <= 4) return f.template operator()<4>();
  return packs <= 8 ? f.template operator()<8>() : cudaErrorInvalidValue;
}

template <class T>
cudaError_t norm_modulate(const NormModulateParams& p, cudaStream_t stream) {
  return with_packs(p.dim, [&]<int kPacks>() {
    norm_modulate_kernel<T, kPacks><<<dim3(unsigned(p.rows), unsigned(p.batch)), kThreads, 0, stream>>>(p);
    return cudaGetLastError();
  });
}

template <class T>
cudaError_t swiglu(const SwigluParams& p, cudaStream_t stream) {
  swiglu_kernel<T><<<dim3(unsigned(p.rows), unsigned(p.batch)), kThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

template <class T>
cudaError_t rms(const RmsParams& p, cudaStream_t stream) {
  return with_packs(p.dim, [&]<int kPacks>() {
    rms_kernel<T, kPacks><<<dim3(unsigned(p.rows), unsigned(p.batch)), kThreads, 0, stream>>>(p);
    return cudaGetLastError();
  });
}

template <class T>
cudaError_t add_gated(const AddGatedParams& p, cudaStream_t stream) {
  add_gated_kernel<T><<<dim3(unsigned(p.rows), unsigned(p.batch)), kThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

// Calls f<T>(), or nothing where there are no rows.
template <class Params, class F>
cudaError_t with_scalar(const Params& p, Scalar scalar, F f) {
  if (p.rows == 0 || p.batch == 0) return cudaSuccess;
  switch (scalar) {
    case Scalar::Float:
      return f.template operator()<float>();
    case Scalar::Half:
      return f.template operator()<__half>();
    case Scalar::BFloat16:
      return f.template operator()<__nv_bfloat16>();
  }
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t launch_norm_modulate(const NormModulateParams& params, Scalar scalar, cudaStream_t stream) {
  return with_scalar(params, scalar, [&]<class T>() { return norm_modulate<T>(params, stream); });
}

cudaError_t launch_add_gated(const AddGatedParams& params, Scalar scalar, cudaStream_t stream) {
  return with_scalar(params, scalar, [&]<class T>() { return add_gated<T>(params, stream); });
}

cudaError_t launch_swiglu(const SwigluParams& params, Scalar scalar, cudaStream_t stream) {
  return with_scalar(params, scalar, [&]<class T>() { return swiglu<T>(params, stream); });
}

cudaError_t launch_rms(const RmsParams& params, Scalar scalar, cudaStream_t stream) {
  return with_scalar(params, scalar, [&]<class T>() { return rms<T>(params, stream); });
}

}  // namespace sagelab::kernel
