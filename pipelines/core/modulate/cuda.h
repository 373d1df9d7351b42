// SPDX-License-Identifier: Apache-2.0
// modulate.h, rms.h and swiglu.h by one kernel each, fp32 inside and rounded once. Internal to their sources.
#pragma once

#include "pipelines/core/modulate/modulate.h"

namespace sagelab {

// False, and nothing done, where the kernels cannot take these tensors (see kernel.h).
bool norm_modulate_cuda(at::Tensor& out, const at::Tensor& x, const LayerNorm& norm,
                        std::span<const Modulation> spans);
bool add_gated_cuda(const at::Tensor& x, const at::Tensor& y, std::span<const Gate> spans);
bool rms_modulate_cuda(const at::Tensor& x, const at::Tensor& scale, double eps, const at::Tensor& out);
bool swiglu_cuda(const at::Tensor& both);
bool add_rms_gated_cuda(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gate, double eps);

}  // namespace sagelab
