// SPDX-License-Identifier: Apache-2.0
// A segment's tensors as kernels take them (attention/device/row.h).
#pragma once

#include <vector>

#include "attention/device/row.h"
#include "attention/joint.h"

namespace sagelab::attention {

// Small fp32 operands of one launch, on its device and on 16 bytes. To be kept until the launch: the caching
// allocator reuses memory in stream order.
class Floats {
 public:
  // Null for an undefined tensor.
  const float* operator()(const at::Tensor& x, const at::Device& device);

 private:
  std::vector<at::Tensor> kept_;
};

// Whether every row of x [B, S, H, D] starts on the 16 bytes that one load takes.
bool rows_aligned(const at::Tensor& x);
sagelab::kernel::Rows rows_of(const at::Tensor& x, const Norm& norm, bool rotate, Floats& floats);
sagelab::kernel::Rotation rotation_of(const Rope& rope, const at::Device& device, Floats& floats);

}  // namespace sagelab::attention
