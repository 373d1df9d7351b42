// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels behind modulate.h, as plain data: their translation unit sees no tensor.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "attention/device/scalar.h"

namespace sagelab::kernel {

constexpr int kMaxSpans = 4;
constexpr int kMaxDim = 8192;

// Rows [begin, end) with their own operands, [B, D] in x's dtype; strides in elements.
struct ModulateSpan {
  int64_t begin = 0, end = 0;
  const void* shift = nullptr;
  const void* scale = nullptr;
  int64_t shift_batch = 0, scale_batch = 0;
};

struct NormModulateParams {
  const void* x = nullptr;       // [B, S, D], rows contiguous
  void* out = nullptr;           // [B, S, D] contiguous
  const void* weight = nullptr;  // [D] in x's dtype, or null
  const void* bias = nullptr;
  int64_t x_batch = 0, x_row = 0, batch = 0, rows = 0;
  int dim = 0, spans = 0;
  float eps = 0;
  ModulateSpan span[kMaxSpans];
};

struct GateSpan {
  int64_t begin = 0, end = 0;
  const void* gate = nullptr;
  int64_t gate_batch = 0;
};

struct AddGatedParams {
  void* x = nullptr;        // [B, S, D], rows contiguous
  const void* y = nullptr;  // likewise
  int64_t x_batch = 0, x_row = 0, y_batch = 0, y_row = 0, batch = 0, rows = 0;
  int dim = 0, spans = 0;
  GateSpan span[kMaxSpans];
};

struct RmsParams {
  const void* x = nullptr;       // [B, S, D], rows contiguous: what is normed
  void* out = nullptr;           // likewise
  const void* factor = nullptr;  // [B, D] in x's dtype
  int64_t x_batch = 0, x_row = 0, out_batch = 0, out_row = 0, factor_batch = 0, batch = 0, rows = 0;
  int dim = 0;
  float eps = 0;
  bool adds = false;  // out += rms(x) tanh(factor), else out = rms(x) (1 + factor)
};

struct SwigluParams {
  void* x = nullptr;  // [B, S, 2 dim], rows contiguous: value and gate; the value becomes value * SiLU(gate)
  int64_t x_batch = 0, x_row = 0, batch = 0, rows = 0;
  int dim = 0;  // larger than kMaxDim, too
};

// dim: a multiple of 8 up to kMaxDim; every row and operand starts on 16 bytes.
cudaError_t launch_norm_modulate(const NormModulateParams& params, Scalar scalar, cudaStream_t stream);
cudaError_t launch_add_gated(const AddGatedParams& params, Scalar scalar, cudaStream_t stream);
cudaError_t launch_rms(const RmsParams& params, Scalar scalar, cudaStream_t stream);
cudaError_t launch_swiglu(const SwigluParams& params, Scalar scalar, cudaStream_t stream);

}  // namespace sagelab::kernel
