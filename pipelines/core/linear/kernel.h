// SPDX-License-Identifier: Apache-2.0
// The CUDA kernel behind quantize_rows (pipelines/core/linear/linear.h), as plain data.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace sagelab::kernel {

struct QuantizeRowsParams {
  const void* x = nullptr;  // bf16 [rows, dim], each row contiguous and on 16 bytes
  void* values = nullptr;   // e4m3 [rows, dim] contiguous
  float* scale = nullptr;   // [rows]
  int64_t x_row = 0, rows = 0;
  int dim = 0;  // a multiple of 8
};

// values = x / scale, rounded to nearest even; scale = the row's largest magnitude / 448, or 1 for zeros.
cudaError_t launch_quantize_rows(const QuantizeRowsParams& params, cudaStream_t stream);

}  // namespace sagelab::kernel
