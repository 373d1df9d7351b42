// SPDX-License-Identifier: Apache-2.0
// Adaptive norms and gated residuals of diffusion transformers, where runs of rows (text, video) of one
// buffer have their own modulation. Whole operations, so that one kernel can stand behind each.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "pipelines/core/layers.h"

namespace sagelab {

// Rows [begin, end) of x [B, S, D]; shift and scale [B, D], any stride between rows.
struct Modulation {
  int64_t begin = 0, end = 0;
  at::Tensor shift, scale;
};

struct Gate {
  int64_t begin = 0, end = 0;
  at::Tensor gate;  // [B, D], any stride between rows
};

// norm(x) * (1 + scale) + shift, into a new contiguous tensor of x's dtype. The spans follow each other and
// cover every row. shift and scale may be of another floating dtype than x. Throws c10::Error naming shapes
// that do not fit.
at::Tensor norm_modulate(const at::Tensor& x, const LayerNorm& norm, std::span<const Modulation> spans);

// x += gate * y, in place, rounded once; x, y [B, S, D]. Spans as above.
void add_gated_(const at::Tensor& x, const at::Tensor& y, std::span<const Gate> spans);

}  // namespace sagelab
