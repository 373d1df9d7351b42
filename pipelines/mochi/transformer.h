// SPDX-License-Identifier: Apache-2.0
// diffusers MochiTransformer3DModel: text to video. Two streams of rows of their own widths, [1, N, D] of
// the video and [1, n, C] of the text, meet in attention alone. The last block reads the text and leaves it
// as it is.
//
// Note [Padding is left out]
// diffusers keeps the text's padded rows in its linears and leaves them out of every attention, sample by
// sample, and out of the mean and the keys that the pooled row is made of; only video rows leave the model.
// So a forward on the valid rows alone gives the same. Lengths differ within a batch, and one of zero is
// common (an empty negative prompt): its samples run one by one.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "attention/joint.h"
#include "pipelines/common/joint/blocks.h"
#include "pipelines/common/joint/ends.h"
#include "pipelines/core/layers.h"
#include "pipelines/core/stream/layer_stream.h"
#include "pipelines/core/weights.h"
#include "pipelines/mochi/condition.h"
#include "pipelines/mochi/config.h"
#include "pipelines/mochi/tokens.h"
#include "pipelines/run.h"

namespace sagelab::mochi {

struct Inputs {
  at::Tensor latents;    // [B, in_channels, T, h, w], of whole patches
  at::Tensor text;       // [B, L, text_embed_dim], padded on the right
  at::Tensor lengths;    // int64 [B] on the CPU: the rows of text that are read, 0 to L
  at::Tensor t;          // [B], in [0, 1000], of any dtype; at 0 there is noise alone
  at::Tensor positions;  // positions_of, on the latents' device
};

class Transformer {
 public:
  Transformer(const Weights& w, const TransformerConfig& config);

  // Returns the prediction [B, out_channels, T, h, w] in latents' dtype. Throws Cancelled between blocks,
  // c10::Error naming shapes that do not fit. observe, for each sample in turn, of N tokens and n rows of
  // text: "temb" [1, D], "patch_embed" [1, N, D], "caption_proj" [1, n, C], "block.I" [1, N, D] and
  // "context.I" [1, n, C]: copies that stay as they are.
  at::Tensor operator()(const Inputs& inputs, const Forward& forward) const;

  const TransformerConfig& config() const { return config_; }

 private:
  static constexpr size_t kVideo = 0, kText = 1;  // in the order of their rows

  // One stream's share of a block.
  struct Stream {
    Linear norm;              // [4W, D]; [W, D] for the last block's text
    Projections projections;  // of rows of W to D; k and v alone for the last block's text
    Linear out;               // undefined there, as what follows
    FeedForward ff;           // of twice ff_dim(W), and back from it
  };
  struct Block {
    std::array<Stream, 2> streams;
    bool last = false;
  };
  // What the blocks of one forward share.
  struct Pass : Streams {  // of rows of both in one buffer
    Pass(const Streams& streams, const Forward& forward) : Streams(streams), forward(forward) {}
    std::array<at::Tensor, 2> x;  // [1, N, D], [1, n, C]
    at::Tensor conditioning;      // SiLU(temb) [1, D]
    attention::Rope rope;         // of the video
    const Forward& forward;
    size_t read() const { return bounds[1] < bounds[2] ? 2 : 1; }  // streams: without text there is one
    size_t written(const Block& block) const { return block.last ? 1 : read(); }
  };

  static Block make_block(const Weights& w, const TransformerConfig& config, int64_t layer);
  at::Tensor predict(const Inputs& sample, const Forward& forward) const;  // of a batch of one
  void run_block(int layer, Pass& pass) const;
  void run_blocks(Pass& pass) const;
  // y: modulated rows, of which video's are part of rows, [1, N + n, D]. Returns what is to be added.
  std::array<at::Tensor, 2> attend(int layer, const std::array<at::Tensor, 2>& y, const at::Tensor& rows,
                                   const Pass& pass) const;

  TransformerConfig config_;
  Linear patch_embed_;      // of packed patches
  at::Tensor frequencies_;  // fp32 [3, H, head_dim / 2]
  Condition condition_;
  Linear caption_proj_;
  std::vector<Block> blocks_;
  std::unique_ptr<LayerStream> stream_;  // of the blocks; null where they are on the device
  OutputProjection output_;
};

// Multiply-adds x 2 of one forward at batch 1: video_len tokens, text_len valid rows of text.
double flops(const TransformerConfig& config, int64_t video_len, int64_t text_len);

}  // namespace sagelab::mochi
