// SPDX-License-Identifier: Apache-2.0
// RMS norms without weights whose result a condition scales.
#pragma once

#include <ATen/core/Tensor.h>

namespace sagelab {

// In fp32 inside, rounded once. x, y, out [B, S, D] of one dtype, rows of any stride; scale and gate [B, D],
// any stride between rows. Throw c10::Error naming shapes that do not fit.

// out = rms(x) * (1 + scale).
void rms_modulate_into(const at::Tensor& x, const at::Tensor& scale, double eps, const at::Tensor& out);
// x += rms(y) * tanh(gate).
void add_rms_gated_(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gate, double eps);

}  // namespace sagelab
