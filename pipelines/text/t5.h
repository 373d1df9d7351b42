// SPDX-License-Identifier: Apache-2.0
// T5 encoder (v1.1 gated-gelu, and the plain form), transformers T5EncoderModel. Attention scale 1, relative
// bias of block 0 shared by all. In fp16 every `wo` stays fp32, so the residual stream becomes fp32 from
// block 0 on.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "pipelines/core/config.h"
#include "pipelines/core/layers.h"
#include "pipelines/core/weights.h"

namespace sagelab {

struct T5Config {
  int64_t d_model = 512, d_ff = 2048, d_kv = 64, num_heads = 8, num_layers = 6, vocab_size = 32128;
  int64_t buckets = 32, max_distance = 128;
  bool gated = false;
  Activation activation = Activation::Relu;
  double eps = 1e-6;
  explicit T5Config(Config& config);
};

class T5Encoder {
 public:
  // The embedding is read as shared.weight, or where that is missing as encoder.embed_tokens.weight; a file
  // may hold both names of it.
  T5Encoder(const Weights& w, const T5Config& config);
  // ids int64 [B, L] -> [B, L, d_model]. mask: bool [B, L], true where a key counts; undefined: all (pads
  // attend). observe gets "block.N" after each block.
  at::Tensor operator()(const at::Tensor& ids, const at::Tensor& mask = {},
                        const std::function<void(const std::string&, const at::Tensor&)>& observe = {}) const;

 private:
  struct Block {
    RmsNorm attention_norm, ff_norm;
    Linear qkv, o;
    Linear wi;  // gated: wi_0 and wi_1 stacked
    Linear wo;
  };
  at::Tensor attention_bias(int64_t length, const at::Tensor& mask) const;  // [1 or B, H, L, L]
  at::Tensor attend(const Block& block, const at::Tensor& x, const at::Tensor& bias) const;
  at::Tensor feed_forward(const Block& block, const at::Tensor& x) const;

  T5Config config_;
  at::Tensor embedding_;      // [vocab, d_model]
  at::Tensor relative_bias_;  // [buckets, heads]
  std::vector<Block> blocks_;
  RmsNorm final_norm_;
};

}  // namespace sagelab
