// SPDX-License-Identifier: Apache-2.0
// modulate.h by one kernel each, fp32 inside and rounded once. Internal to modulate.cpp.
#pragma once

#include "pipelines/core/modulate/modulate.h"

namespace sagelab {

// False, and nothing done, where the kernels cannot take these tensors (see kernel.h).
bool norm_modulate_cuda(at::Tensor& out, const at::Tensor& x, const LayerNorm& norm,
                        std::span<const Modulation> spans);
bool add_gated_cuda(const at::Tensor& x, const at::Tensor& y, std::span<const Gate> spans);

}  // namespace sagelab
