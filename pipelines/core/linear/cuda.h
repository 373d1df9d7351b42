// SPDX-License-Identifier: Apache-2.0
// quantize_rows in one pass on a GPU.
#pragma once

#include <ATen/core/Tensor.h>

#include "pipelines/core/linear/linear.h"

namespace sagelab {

// False, and nothing done, where the kernel does not take x: not bf16, or rows that are not contiguous, not
// on 16 bytes or no multiple of 8 long.
bool quantize_rows_cuda(QuantizedRows& out, const at::Tensor& x);

}  // namespace sagelab
