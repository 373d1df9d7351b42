// SPDX-License-Identifier: Apache-2.0
// diffusers HunyuanVideoTransformer3DModel: text to video. One buffer [1, video + text, D] runs through all
// blocks, the video first.
//
// Note [Padding is dropped]
// diffusers keeps the text's padded rows and masks their keys in every attention, in the refiner as well; the
// mean that the refiner starts from leaves them out, and only video rows leave the model. So a forward on the
// valid rows alone gives the same, without any mask. Lengths differ within a batch: its samples run one by
// one.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "attention/joint.h"
#include "pipelines/common/joint/ends.h"
#include "pipelines/common/joint/stack.h"
#include "pipelines/core/layers.h"
#include "pipelines/core/weights.h"
#include "pipelines/hunyuanvideo/config.h"
#include "pipelines/hunyuanvideo/refiner.h"
#include "pipelines/hunyuanvideo/tokens.h"
#include "pipelines/run.h"

namespace sagelab::hunyuanvideo {

struct Inputs {
  at::Tensor latents;    // [B, in_channels, T, h, w], of whole patches
  at::Tensor text;       // [B, L, text_embed_dim], padded on the right
  at::Tensor lengths;    // int64 [B] on the CPU: the rows of text that are read, 1 to L
  at::Tensor pooled;     // [B, pooled_projection_dim]
  at::Tensor t;          // [B], in [0, 1000], of any dtype: its waves are fp32
  at::Tensor guidance;   // [B], the scale itself; undefined where the model has no guidance_embeds
  attention::Rope rope;  // rope_table's, for L rows of text or more
};

class Transformer {
 public:
  Transformer(const Weights& w, const TransformerConfig& config);

  // Returns the prediction [B, out_channels, T, h, w] in latents' dtype. guidance is rounded to that dtype
  // before and after it is multiplied by 1000, as in diffusers' pipeline. Throws Cancelled between blocks,
  // c10::Error naming shapes that do not fit. observe, for each sample in turn, of N tokens and n rows of
  // text: "temb" [1, D], "x_embedder" [1, N, D], the refiner's, "context_embedder" [1, n, D], "block.I" and
  // "single.I" [1, N + n, D]: copies that stay as they are. Layers count in the order of a forward: refiner,
  // double, single.
  at::Tensor operator()(const Inputs& inputs, const Forward& forward) const;

  const TransformerConfig& config() const { return config_; }

 private:
  at::Tensor predict(const Inputs& sample, const Forward& forward) const;  // of a batch of one
  at::Tensor embed_condition(const Inputs& sample) const;

  TransformerConfig config_;
  Linear x_embedder_;  // of packed patches
  TokenRefiner refiner_;
  ConditionEmbedder condition_;
  Stack stack_;
  OutputProjection output_;
};

// Multiply-adds x 2 of one forward at batch 1: video_len tokens, text_len valid rows of text.
double flops(const TransformerConfig& config, int64_t video_len, int64_t text_len);

}  // namespace sagelab::hunyuanvideo
