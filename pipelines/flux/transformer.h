// SPDX-License-Identifier: Apache-2.0
// diffusers FluxTransformer2DModel: FLUX.1 schnell and dev. One buffer [B, text + image, D] runs through all
// blocks, text first: double blocks have weights for either stream, single blocks for both together.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "attention/joint.h"
#include "pipelines/common/joint/blocks.h"
#include "pipelines/core/layers.h"
#include "pipelines/core/modulate/modulate.h"
#include "pipelines/core/stream/layer_stream.h"
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
  static constexpr size_t kText = 0, kImage = 1;  // in the order of their rows

  // One stream's share of a double block.
  struct Stream {
    Linear norm;  // [6D, D]
    Projections projections;
    Linear out;
    FeedForward ff;
  };
  struct Double {
    std::array<Stream, 2> streams;
  };
  struct Single {
    Linear norm;  // [3D, D]
    Projections projections;
    Linear mlp, out;  // [F, D], [D, D + F]
  };
  // What the blocks of one forward share.
  struct Pass : Streams {  // of x [B, L + N, ...]
    Pass(const Streams& streams, const attention::Rope& rope, const Forward& forward)
        : Streams(streams), rope(rope), forward(forward) {}
    at::Tensor conditioning;  // SiLU(temb) [B, D]
    const attention::Rope& rope;
    const Forward& forward;
  };
  using Chunks = std::array<std::vector<at::Tensor>, 2>;  // six of either stream

  static Double make_double(const Weights& w, const TransformerConfig& config);
  static Single make_single(const Weights& w, const TransformerConfig& config);
  at::Tensor embed_condition(const Inputs& inputs) const;
  at::Tensor embed(const Inputs& inputs, const Pass& pass) const;
  void call(std::span<const attention::Segment> segments, int layer, std::string_view block,
            const Pass& pass) const;
  // Both add to x [B, L + N, D] in place.
  void run_double(int layer, const at::Tensor& x, const Pass& pass) const;
  void run_single(int layer, const at::Tensor& x, const Pass& pass) const;
  void run_blocks(const at::Tensor& x, const Pass& pass) const;
  // y [B, L + N, D]: the modulated rows; its memory is used again.
  at::Tensor attend(const Double& block, int layer, const at::Tensor& y, const Pass& pass) const;
  at::Tensor project_out(const at::Tensor& x, const Pass& pass) const;

  TransformerConfig config_;
  Linear x_embedder_, context_embedder_;
  TimestepEmbedding timestep_embedder_, guidance_embedder_, text_embedder_;
  std::vector<Double> doubles_;
  std::vector<Single> singles_;
  std::unique_ptr<LayerStream> stream_;  // of both, doubles first; null where they are on the device
  Linear norm_out_, proj_out_;
};

// Multiply-adds x 2 of one forward at batch 1: image_len tokens, text_len rows of text.
double flops(const TransformerConfig& config, int64_t image_len, int64_t text_len);

}  // namespace sagelab::flux
