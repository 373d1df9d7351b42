// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace sagelab {

// Bytes in host memory. pinned: for copies that run beside the GPU's work; of exactly that size, while
// LibTorch's own pinned memory comes in powers of two. Throws sagelab::Error where it cannot be had.
at::Tensor host_bytes(int64_t size, bool pinned);

}  // namespace sagelab
