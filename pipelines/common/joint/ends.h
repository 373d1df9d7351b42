// SPDX-License-Identifier: Apache-2.0
// What stands before and behind the blocks of joint transformers: FLUX.1's, SD3's, HunyuanVideo's.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "pipelines/core/layers.h"
#include "pipelines/core/weights.h"

namespace sagelab {

// temb of diffusers' CombinedTimestepTextProjEmbeddings, with guidance or without.
class ConditionEmbedder {
 public:
  // Without guidance_embedder where that is not wanted.
  ConditionEmbedder(const Weights& w, int64_t dim, int64_t pooled_channels, bool guided);
  // t and guidance [B] as their waves take them, pooled [B, pooled_channels] -> [B, D] in pooled's dtype.
  at::Tensor operator()(const at::Tensor& t, const at::Tensor& guidance, const at::Tensor& pooled) const;

 private:
  TimestepEmbedding timestep_, guidance_, text_;
};
double multiply_adds_of_condition(int64_t dim, int64_t pooled_channels, bool guided);

// The last norm, AdaLayerNormContinuous, and the projection behind it.
class OutputProjection {
 public:
  OutputProjection(const Weights& w, int64_t dim, int64_t channels);
  at::Tensor operator()(const at::Tensor& rows, const at::Tensor& conditioning) const;

 private:
  Linear norm_, proj_;  // [2D, D], [channels, D]
};

}  // namespace sagelab
