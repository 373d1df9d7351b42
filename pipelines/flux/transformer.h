// SPDX-License-Identifier: Apache-2.0
// diffusers FluxTransformer2DModel: FLUX.1 schnell and dev. One buffer [B, text + image, D] runs through all
// blocks, text first.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "attention/joint.h"
#include "pipelines/common/joint/ends.h"
#include "pipelines/common/joint/stack.h"
#include "pipelines/core/layers.h"
#include "pipelines/core/weights.h"
#include "pipelines/flux/config.h"
#include "pipelines/run.h"

namespace sagelab::flux {

struct Inputs {
  at::Tensor tokens;     // [B, N, in_channels]: pack's
  at::Tensor text;       // [B, L, joint_attention_dim], padding included: it is attended to
  at::Tensor pooled;     // [B, pooled_projection_dim]
  at::Tensor t;          // [B], in [0, 1]
  at::Tensor guidance;   // [B], the scale itself; undefined where the model has no guidance_embeds
  attention::Rope rope;  // rope_table's
};

class Transformer {
 public:
  Transformer(const Weights& w, const TransformerConfig& config);

  // Returns the prediction [B, N, out_channels] in tokens' dtype. t and guidance are rounded to that dtype
  // before and after they are multiplied by 1000, as in diffusers. Throws Cancelled between blocks,
  // c10::Error naming shapes that do not fit. observe: "temb" [B, D], "x_embedder" [B, N, D],
  // "context_embedder" [B, L, D], "block.I" and "single.I" [B, L + N, D]: copies that stay as they are.
  at::Tensor operator()(const Inputs& inputs, const Forward& forward) const;

  const TransformerConfig& config() const { return config_; }

 private:
  at::Tensor embed_condition(const Inputs& inputs) const;
  at::Tensor embed(const Inputs& inputs, const Stack::Pass& pass) const;

  TransformerConfig config_;
  Linear x_embedder_, context_embedder_;
  ConditionEmbedder condition_;
  Stack stack_;
  OutputProjection output_;
};

// Multiply-adds x 2 of one forward at batch 1: image_len tokens, text_len rows of text.
double flops(const TransformerConfig& config, int64_t image_len, int64_t text_len);

}  // namespace sagelab::flux
