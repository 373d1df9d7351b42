// SPDX-License-Identifier: Apache-2.0
// The attention between the first two resnets of an autoencoder's decoder (diffusers Attention with
// _from_deprecated_attn_block).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "pipelines/core/layers.h"
#include "pipelines/core/weights.h"

namespace sagelab {

// One head as wide as the block, over all places of a picture or a video; a place of a video sees the frames
// before its own and its own.
struct MidAttention {
  GroupNorm group_norm;
  Linear q, k, v, out;

  // Keys to_q, to_k, to_v, to_out.0 or, of an old folder, query, key, value, proj_attn.
  MidAttention(const Weights& w, int64_t channels, int64_t groups, double eps);
  // x [1, C, H, W] or [1, C, T, H, W] -> the same.
  at::Tensor operator()(const at::Tensor& x) const;
};

// Scores that one call of it may ask for: where LibTorch has no fused kernel it writes them down.
constexpr int64_t kMostScores = int64_t(1) << 28;

}  // namespace sagelab
