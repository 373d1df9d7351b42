// SPDX-License-Identifier: Apache-2.0
// What the gather kernel needs to know, as plain data: its translation unit sees no tensor.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "attention/device/row.h"

namespace sagelab::attention::kernel {

using sagelab::kernel::Scalar;

// One of q, k, v of one segment. Strides in elements.
struct Stream {
  sagelab::kernel::Rows in;
  void* out = nullptr;                   // null: this stream is not copied
  int64_t out_batch = 0, out_token = 0;  // heads are head_dim apart
};

struct GatherParams {
  Stream streams[3];
  sagelab::kernel::Rotation rotation;
  int batch = 0, head_dim = 0;
  int64_t tokens = 0;
};

cudaError_t launch_gather(const GatherParams& params, Scalar scalar, cudaStream_t stream);

}  // namespace sagelab::attention::kernel
