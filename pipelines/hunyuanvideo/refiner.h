// SPDX-License-Identifier: Apache-2.0
// diffusers HunyuanVideoTokenRefiner: blocks over the text alone, gated by the time and the text's mean.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "pipelines/common/joint/blocks.h"
#include "pipelines/common/joint/ends.h"
#include "pipelines/core/layers.h"
#include "pipelines/core/weights.h"
#include "pipelines/hunyuanvideo/config.h"
#include "pipelines/run.h"

namespace sagelab::hunyuanvideo {

class TokenRefiner {
 public:
  TokenRefiner(const Weights& w, const TransformerConfig& config);

  // text [B, n, text_embed_dim], without padding, into out [B, n, D], which may be rows of a larger tensor.
  // t [B]. Throws Cancelled between blocks. observe: "refiner.temb" [B, D], "refiner.proj_in" and "refiner.I"
  // [B, n, D]. Attention is one call for each block, "refiner"; they are the model's first layers.
  void operator()(const at::Tensor& text, const at::Tensor& t, const at::Tensor& out,
                  const Forward& forward) const;

 private:
  struct Block {
    LayerNorm norm1, norm2;
    Projections projections;
    Linear out;
    FeedForward ff;
    Linear gates;  // [2D, D]
  };

  Block make_block(const Weights& w) const;
  // Both add to x [B, n, D] in place.
  void run_block(int layer, const at::Tensor& x, const at::Tensor& conditioning,
                 const Forward& forward) const;
  at::Tensor attend(const Block& block, int layer, const at::Tensor& y, const Forward& forward) const;

  TransformerConfig config_;
  ConditionEmbedder condition_;
  Linear proj_in_;
  std::vector<Block> blocks_;
};

// Multiply-adds at batch 1.
double refiner_multiply_adds(const TransformerConfig& config, int64_t text_len);

}  // namespace sagelab::hunyuanvideo
