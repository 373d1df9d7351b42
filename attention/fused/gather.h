// SPDX-License-Identifier: Apache-2.0
// What the gather kernel needs to know, as plain data: its translation unit sees no tensor.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "attention/device/scalar.h"

namespace sagelab::attention::kernel {

using sagelab::kernel::Scalar;
enum class NormKind : int { None, Rms, Layer };

// One of q, k, v of one segment: rows [B, S, H] of head_dim elements. Strides in elements.
struct Stream {
  const void* in = nullptr;
  void* out = nullptr;  // null: this stream is not copied
  int64_t in_batch = 0, in_token = 0, in_head = 0;
  int64_t out_batch = 0, out_token = 0;  // heads are head_dim apart
  int heads = 0;
  NormKind norm = NormKind::None;
  const float* weight = nullptr;  // [D] or null
  const float* bias = nullptr;    // [D] or null
  float eps = 0;
  bool rotate = false;
};

struct GatherParams {
  Stream streams[3];
  int batch = 0, head_dim = 0;
  int64_t tokens = 0;
  const float* cos = nullptr;  // [tokens, D/2]; null where positions are given
  const float* sin = nullptr;
  const float* positions = nullptr;    // [tokens, 3]
  const float* frequencies = nullptr;  // [3, H, D/2]
  int frequency_heads = 0;
};

cudaError_t launch_gather(const GatherParams& params, Scalar scalar, cudaStream_t stream);

}  // namespace sagelab::attention::kernel
