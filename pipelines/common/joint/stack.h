// SPDX-License-Identifier: Apache-2.0
// Double- and single-stream blocks, as FLUX.1 and HunyuanVideo have them. One buffer [B, S, D] of image and
// text rows runs through all blocks: double blocks have weights for either stream, single blocks for both
// together.
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
#include "pipelines/core/stream/layer_stream.h"
#include "pipelines/core/weights.h"
#include "pipelines/run.h"

namespace sagelab {

struct StackConfig {
  int64_t layers = 0, single_layers = 0;  // double blocks, single blocks
  int64_t heads = 0, head_dim = 0;
  bool image_first = false;  // else the text's rows are
  bool clips_half = false;  // rows are kept in fp16's range: the text's after double blocks, all after single
  int64_t layers_before = 0;  // of the model: where a call's Site starts to count
  int64_t dim() const { return heads * head_dim; }
  int64_t ff_dim() const { return 4 * dim(); }
  int64_t blocks() const { return layers + single_layers; }
};

class Stack {
 public:
  // transformer_blocks and single_transformer_blocks of w.
  Stack(const Weights& w, const StackConfig& config);

  // What the blocks of one forward share. The streams are in the order of their rows.
  struct Pass : Streams {
    Pass(const Streams& streams, const attention::Rope& rope, const Forward& forward)
        : Streams(streams), rope(rope), forward(forward) {}
    at::Tensor conditioning;  // SiLU(temb) [B, D]
    attention::Rope rope;     // cos and sin of all rows
    const Forward& forward;
  };
  // Adds to x [B, S, D] in place. Throws Cancelled between blocks. observe: "block.I" and "single.I" [B, S,
  // D]. Attention is one call for each block, "double" and "single".
  void operator()(const at::Tensor& x, const Pass& pass) const;

 private:
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

  static Double make_double(const Weights& w, const StackConfig& config);
  static Single make_single(const Weights& w, const StackConfig& config);
  void call(std::span<const attention::Segment> segments, int layer, std::string_view block,
            const Pass& pass) const;
  void run_double(int layer, const at::Tensor& x, const Pass& pass) const;
  void run_single(int layer, const at::Tensor& x, const Pass& pass) const;
  // y [B, S, D]: the modulated rows; its memory is used again.
  at::Tensor attend(const Double& block, int layer, const at::Tensor& y, const Pass& pass) const;

  StackConfig config_;
  std::vector<Double> doubles_;
  std::vector<Single> singles_;
  std::unique_ptr<LayerStream> stream_;  // of both, doubles first; null where they are on the device
};

// Multiply-adds of the blocks at batch 1 over so many rows.
double multiply_adds(const StackConfig& config, int64_t rows);

}  // namespace sagelab
