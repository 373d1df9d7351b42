// SPDX-License-Identifier: Apache-2.0
// Llama as a text encoder: transformers' LlamaModel, up to the layer whose states are wanted. Causal
// attention with grouped heads, rotary positions in halves.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pipelines/core/config.h"
#include "pipelines/core/layers.h"
#include "pipelines/core/weights.h"

namespace sagelab {

struct LlamaConfig {
  int64_t vocab_size = 32000, hidden_size = 4096, intermediate_size = 11008;
  int64_t num_layers = 32, num_heads = 32, num_kv_heads = 32, head_dim = 128;
  Activation activation = Activation::Silu;
  double eps = 1e-6, rope_theta = 10000;
  // rope_theta as transformers 4 has it, and rope_parameters of transformers 5. Scaled positions are refused.
  explicit LlamaConfig(Config& config);
};

class LlamaEncoder {
 public:
  // Keys with and without `model.`. skip_layers: how many layers at the end are left out, 0 to num_layers;
  // what comes out is hidden_states[-(skip_layers + 1)]: after the final norm where it is 0, else before it.
  // Throws sagelab::Error for another skip_layers.
  LlamaEncoder(const Weights& w, const LlamaConfig& config, int64_t skip_layers);
  LlamaEncoder(const LlamaEncoder&) = delete;
  LlamaEncoder(LlamaEncoder&&) = default;
  // For Weights::require_all_read: the layers that are left out, and the head of a language model.
  std::span<const std::string_view> ignored() const { return ignored_; }

  // ids int64 [B, L], every one of them a token of the text -> [B, L, hidden_size]. There is no mask: texts
  // are padded on the right, so no token sees a pad, and rows of pads are not to be run at all (B = 1, cut to
  // Tokens::length). observe gets "embeddings", then "layer.N" after each layer. Throws sagelab::Error for an
  // id that the vocabulary does not have.
  at::Tensor operator()(const at::Tensor& ids,
                        const std::function<void(const std::string&, const at::Tensor&)>& observe = {}) const;

 private:
  struct Layer {
    RmsNorm attention_norm, mlp_norm;
    Linear qkv, o;
    Linear gate_up, down;
  };
  struct Rotation;  // of every position
  Rotation rotation(const at::Tensor& x) const;
  at::Tensor attend(const Layer& layer, const at::Tensor& x, const Rotation& rotation) const;
  void leave_out(std::string_view prefix, int64_t skip_layers);

  LlamaConfig config_;
  at::Tensor embedding_;  // [vocab, C]
  std::vector<Layer> layers_;
  RmsNorm final_norm_;  // weight undefined: none
  std::vector<std::string> ignored_names_;
  std::vector<std::string_view> ignored_;  // of ignored_names_
};

}  // namespace sagelab
