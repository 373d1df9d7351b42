// SPDX-License-Identifier: Apache-2.0
// The gate of a SwiGLU feed-forward (diffusers' SwiGLU).
#pragma once

#include <ATen/core/Tensor.h>

namespace sagelab {

// both [B, S, 2F]: value, then gate. Returns its first half, [B, S, F], where value * SiLU(gate) is now; the
// other half is of no use any more. Throws c10::Error naming a shape that has no halves.
at::Tensor swiglu_(const at::Tensor& both);

}  // namespace sagelab
