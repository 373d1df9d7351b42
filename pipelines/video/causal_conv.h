// SPDX-License-Identifier: Apache-2.0
// Causal 3x3x3 convolutions whose margins repeat the nearest value, in time and in space: what HunyuanVideo's
// and Mochi's autoencoders are made of.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "pipelines/core/layers.h"

namespace sagelab {

// Margins of an input: frames in front of it, rows and columns on each side.
constexpr int64_t kMarginFrames = 2, kMarginPlaces = 1;

// Note [Margins]
// An input is written into a buffer that has room for its margins, and nothing is padded by copying it: no
// operation of LibTorch's that counts in 32 bits sees it.
// like [1, C, T, H, W] -> [1, C, T + 2, H + 2, W + 2], of which nothing is set.
at::Tensor with_margins(at::IntArrayRef sizes, const at::TensorOptions& options);
// The view of it that the input itself is written to.
at::Tensor inside(const at::Tensor& padded);
// Fills the margins from inside.
void replicate_margins(const at::Tensor& padded);
// x within its margins; with an activation, activation(x).
at::Tensor replicated(const at::Tensor& x);
at::Tensor replicated(const at::Tensor& x, Activation activation);

struct CausalConv3d {
  at::Tensor weight, bias;  // [out, in, 3, 3, 3]
  // Keys "conv.weight", "conv.bias".
  CausalConv3d(const Weights& w, int64_t out, int64_t in);
  // An input within its margins -> [1, out, T, H, W].
  at::Tensor operator()(const at::Tensor& padded) const;
};

}  // namespace sagelab
