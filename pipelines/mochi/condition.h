// SPDX-License-Identifier: Apache-2.0
// What Mochi's blocks are conditioned on: the time, and the whole text as one row (diffusers
// MochiCombinedTimestepCaptionEmbedding).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "pipelines/core/layers.h"
#include "pipelines/core/weights.h"
#include "pipelines/mochi/config.h"

namespace sagelab::mochi {

// Attention whose one query is the mean of the text's rows, over that mean and the rows (diffusers
// MochiAttentionPool).
class CaptionPool {
 public:
  static constexpr int64_t kHeads = 8;  // in no config

  CaptionPool(const Weights& w, const TransformerConfig& config);
  // text [B, n, text_embed_dim], without padding; n may be 0: its mean is zero -> [B, D].
  at::Tensor operator()(const at::Tensor& text) const;

 private:
  Linear to_kv_, to_q_, to_out_;  // to_kv: keys first
};

class Condition {
 public:
  Condition(const Weights& w, const TransformerConfig& config);
  // t [B], in [0, 1000], of any dtype: its waves are fp32 -> temb [B, D] in the text's dtype.
  at::Tensor operator()(const at::Tensor& t, const at::Tensor& text) const;

 private:
  TimestepEmbedding timestep_;
  CaptionPool pool_;
  int64_t waves_;
};
double multiply_adds_of_condition(const TransformerConfig& config, int64_t text_len);

}  // namespace sagelab::mochi
