// SPDX-License-Identifier: Apache-2.0
// diffusers CogVideoXTransformer3DModel: 2B (sin-cos table), 5B (RoPE), 1.5 (temporal patches).
// Text and video share every weight; one buffer [B, text + video, D] runs through all blocks, text first.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "attention/joint.h"
#include "pipelines/cogvideox/config.h"
#include "pipelines/cogvideox/positions.h"
#include "pipelines/core/layers.h"
#include "pipelines/core/stream/layer_stream.h"
#include "pipelines/core/weights.h"
#include "pipelines/pipeline.h"

namespace sagelab::cogvideox {

class Transformer {
 public:
  Transformer(const Weights& w, const TransformerConfig& config);

  // latents [B, T, C, h, w], text [B, L, text_embed_dim], t: int64 or float [B]. rope: rope_table's, or empty
  // for 2B. Returns the prediction [B, T, C_out, h, w] in latents' dtype. Throws Cancelled between blocks,
  // and what check_positions throws. observe: "temb", "patch_embed" [B, L + video, D] (positions added),
  // "block.N" [B, L + video, D], "proj_out" [B, video, patch features]: copies that stay as they are.
  at::Tensor operator()(const at::Tensor& latents, const at::Tensor& text, const at::Tensor& t,
                        const attention::Rope& rope, const Forward& forward) const;

  const TransformerConfig& config() const { return config_; }

 private:
  struct Block {
    Linear norm1_linear, norm2_linear;  // [6D, time_embed_dim]
    LayerNorm norm1, norm2;
    Linear qkv, to_out;
    attention::Norm norm_q, norm_k;
    Linear ff_in, ff_out;
  };
  // What the blocks of one forward share.
  struct Pass {
    at::Tensor conditioning;  // SiLU(temb) [B, time_embed_dim]
    int64_t text_len = 0;
    const attention::Rope& rope;
    const Forward& forward;
  };
  static Block make_block(const Weights& w, const TransformerConfig& config);
  at::Tensor embed_time(const at::Tensor& latents, const at::Tensor& t) const;
  at::Tensor embed(const at::Tensor& latents, const at::Tensor& text) const;
  // Both add their gated result to x [B, S, D] in place.
  void attend(const Block& block, int layer, const at::Tensor& x, const Pass& pass) const;
  void feed_forward(const Block& block, const at::Tensor& x, const Pass& pass) const;
  void run_blocks(const at::Tensor& x, const Pass& pass) const;
  at::Tensor project_out(const at::Tensor& x, const Pass& pass) const;

  TransformerConfig config_;
  Linear patch_proj_, text_proj_;
  at::Tensor pos_embedding_;  // the learned table; undefined elsewhere
  TimestepEmbedding time_embedding_;
  std::vector<Block> blocks_;
  std::unique_ptr<LayerStream> stream_;  // of the blocks; null where they are on the device
  LayerNorm norm_final_, norm_out_;
  Linear norm_out_linear_, proj_out_;
};

// cos and sin [text_len + T*gh*gw, head_dim/2] fp32, identity for the text rows; empty where the model has
// none. Throws what check_positions throws.
attention::Rope rope_table(const TransformerConfig& config, const Extent& extent, at::Device device);
// The 2B table [1, text_len + T*gh*gw, D], zeros for the text rows. The forward adds it by axes and never
// makes it.
at::Tensor sincos_table(const TransformerConfig& config, const Extent& extent, const Target& target);
// Multiply-adds x 2 of one forward at batch 1.
double flops(const TransformerConfig& config, const Extent& extent);

}  // namespace sagelab::cogvideox
