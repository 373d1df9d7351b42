// SPDX-License-Identifier: Apache-2.0
// diffusers SD3Transformer2DModel: Stable Diffusion 3 and 3.5. One buffer [B, image + text, D] runs through
// all blocks, image first. The last block reads the text and leaves it as it is.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "attention/joint.h"
#include "pipelines/common/joint/blocks.h"
#include "pipelines/common/joint/ends.h"
#include "pipelines/core/layers.h"
#include "pipelines/core/modulate/modulate.h"
#include "pipelines/core/stream/layer_stream.h"
#include "pipelines/core/weights.h"
#include "pipelines/run.h"
#include "pipelines/sd3/config.h"

namespace sagelab::sd3 {

struct Inputs {
  at::Tensor latents;              // [B, in_channels, h, w], h and w multiples of patch_size
  at::Tensor text;                 // [B, L, joint_attention_dim], padding included: it is attended to
  at::Tensor pooled;               // [B, pooled_projection_dim]
  at::Tensor t;                    // [B], in [0, 1000], of any dtype: its waves are fp32
  std::vector<int64_t> skip = {};  // blocks left out: skip-layer guidance
};

class Transformer {
 public:
  Transformer(const Weights& w, const TransformerConfig& config);

  // Returns the prediction [B, out_channels, h, w] in latents' dtype. Throws Cancelled between blocks,
  // c10::Error naming shapes that do not fit. observe: "temb" [B, D], "pos_embed" [B, N, D],
  // "context_embedder" [B, L, D], "block.I" [B, N + L, D], the last one's [B, N, D]: copies that stay as they
  // are. Attention is of blocks "joint" and, where a layer has a second one, "dual".
  at::Tensor operator()(const Inputs& inputs, const Forward& forward) const;

  const TransformerConfig& config() const { return config_; }

 private:
  static constexpr size_t kImage = 0, kText = 1;  // in the order of their rows

  // One stream's share of a block.
  struct Stream {
    Linear norm;              // [6D, D]; [9D, D] with a second attention; [2D, D] for the last block's text
    Projections projections;  // k and v alone for the last block's text
    Linear out;               // undefined there, as what follows
    FeedForward ff;
  };
  struct Dual {
    Projections projections;
    Linear out;
  };
  struct Block {
    std::array<Stream, 2> streams;
    std::optional<Dual> dual;
    bool last = false;
    size_t written() const { return last ? 1 : 2; }  // streams that it adds to
  };
  // What the blocks of one forward share.
  struct Pass : Streams {  // of x [B, N + L, ...]
    Pass(const Streams& streams, const Forward& forward) : Streams(streams), forward(forward) {}
    at::Tensor conditioning;  // SiLU(temb) [B, D]
    const Forward& forward;
    int calls = 0;
  };

  static Projections make_projections(const Weights& attn, const TransformerConfig& config, size_t stream,
                                      bool keys_only);
  static Block make_block(const Weights& w, const TransformerConfig& config, int64_t layer);
  at::Tensor positions(int64_t rows, int64_t columns) const;  // [1, rows * columns, D]
  at::Tensor embed(const Inputs& inputs, const Pass& pass) const;
  void call(std::span<const attention::Segment> segments, int layer, std::string_view block,
            Pass& pass) const;
  // Both add to x [B, N + L, D] in place.
  void run_block(int layer, const at::Tensor& x, Pass& pass) const;
  void run_blocks(const at::Tensor& x, const Inputs& inputs, Pass& pass) const;
  // y: modulated rows, [B, N + L, D] and [B, N, D]; the memory is used again.
  at::Tensor attend(const Block& block, int layer, const at::Tensor& y, Pass& pass) const;
  void attend_image_(const Dual& dual, int layer, const at::Tensor& y, Pass& pass) const;
  at::Tensor project_out(const at::Tensor& x, const Inputs& inputs, const Pass& pass) const;

  TransformerConfig config_;
  Conv2d patches_;
  at::Tensor pos_embed_;  // [1, P * P, D]
  ConditionEmbedder condition_;
  Linear context_embedder_;
  std::vector<Block> blocks_;
  std::unique_ptr<LayerStream> stream_;  // of the blocks; null where they are on the device
  OutputProjection output_;
};

// Multiply-adds x 2 of one forward at batch 1: image_len tokens, text_len rows of text.
double flops(const TransformerConfig& config, int64_t image_len, int64_t text_len);

}  // namespace sagelab::sd3
