// SPDX-License-Identifier: Apache-2.0
// CLIP's text towers: transformers' CLIPTextModel (CLIP-L) and CLIPTextModelWithProjection (CLIP-L and
// OpenCLIP bigG). Causal attention without a padding mask; pre-norm layers.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pipelines/core/config.h"
#include "pipelines/core/layers.h"
#include "pipelines/core/weights.h"

namespace sagelab {

struct ClipTextConfig {
  int64_t vocab_size = 49408, hidden_size = 512, intermediate_size = 2048, projection_dim = 512;
  int64_t num_layers = 12, num_heads = 8, max_positions = 77;
  int64_t eos_token_id = 49407;  // 2, as old files have it: the largest id of a prompt ends it
  Activation activation = Activation::QuickGelu;
  double eps = 1e-5;
  explicit ClipTextConfig(Config& config);
};

struct ClipText {
  at::Tensor last_hidden;  // [B, L, C], after the final norm
  at::Tensor hidden;       // [B, L, C], hidden_states[-(clip_skip + 2)]: before any final norm
  at::Tensor pooled;       // [B, C]: last_hidden at the end token
  at::Tensor embeds;       // [B, projection_dim]: pooled, projected; undefined without projection
};

class ClipTextEncoder {
 public:
  enum class Projection { None, Text };
  // Keys with and without `text_model.`, as files have either.
  ClipTextEncoder(const Weights& w, const ClipTextConfig& config, Projection projection);
  // For Weights::require_all_read: what files hold besides and this does not read.
  std::span<const std::string_view> ignored() const;

  // ids int64 [B, L], L at most max_positions. clip_skip: how many layers more than the last are left out of
  // `hidden`. observe gets "embeddings", then "layer.N" after each layer. Throws sagelab::Error for an id
  // that the vocabulary does not have, and for a clip_skip that leaves nothing.
  ClipText operator()(const at::Tensor& ids, int64_t clip_skip = 0,
                      const std::function<void(const std::string&, const at::Tensor&)>& observe = {}) const;

 private:
  struct Layer {
    LayerNorm attention_norm, mlp_norm;
    Linear qkv, out;
    Linear fc1, fc2;
  };
  void check(const at::Tensor& ids, int64_t clip_skip) const;
  at::Tensor attend(const Layer& layer, const at::Tensor& x) const;
  at::Tensor end_positions(const at::Tensor& ids) const;  // [B]

  ClipTextConfig config_;
  at::Tensor token_embedding_, position_embedding_;  // [vocab, C], [positions, C]
  std::vector<Layer> layers_;
  LayerNorm final_norm_;
  Linear projection_;  // weight undefined: none
};

}  // namespace sagelab
