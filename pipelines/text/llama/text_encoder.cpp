// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/llama/text_encoder.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <array>
#include <cmath>

#include "attention/error.h"
#include "pipelines/text/encoder_parts.h"

namespace sagelab {

// cos and sin of every position and dimension, in the stream's dtype. [L, head_dim]
struct LlamaEncoder::Rotation {
  at::Tensor cos, sin;

  // Pairs are (j, j + head_dim / 2). x [B, H, L, head_dim].
  at::Tensor operator()(const at::Tensor& x) const {
    const auto halves = x.chunk(2, -1);
    return x * cos + at::cat({-halves[1], halves[0]}, -1) * sin;
  }
};

LlamaConfig::LlamaConfig(Config& config)
    : vocab_size(config.size("vocab_size", 32000, 10000000)),
      hidden_size(config.size("hidden_size", 4096, 65536)),
      intermediate_size(config.size("intermediate_size", 11008, 262144)),
      num_layers(config.size("num_hidden_layers", 32, 1000)),
      num_heads(config.size("num_attention_heads", 32, 1024)),
      num_kv_heads(config.size("num_key_value_heads", num_heads, 1024)),
      head_dim(config.size("head_dim", hidden_size / num_heads, 65536)),
      activation(read_activation(config, "hidden_act", "silu")),
      eps(config.number("rms_norm_eps", 1e-6)),
      rope_theta(config.number("rope_parameters.rope_theta", config.number("rope_theta", 10000))) {
  if (!config.has("head_dim") && hidden_size % num_heads != 0)
    throw Error(fmt::format("{}: hidden_size = {} is no multiple of num_attention_heads = {}", config.where(),
                            hidden_size, num_heads));
  if (num_heads % num_kv_heads != 0)
    throw Error(fmt::format("{}: num_attention_heads = {} is no multiple of num_key_value_heads = {}",
                            config.where(), num_heads, num_kv_heads));
  if (head_dim % 2 != 0)
    throw Error(fmt::format("{}: head_dim = {} cannot be rotated in halves", config.where(), head_dim));
  config.only("model_type", "llama");
  for (const char* key : {"rope_parameters.rope_type", "rope_scaling.rope_type", "rope_scaling.type"})
    config.only(key, "default");
  for (const char* key : {"attention_bias", "mlp_bias"}) config.only(key, false);
  config.only("pretraining_tp", 1);
  // The training's, the tokenizer's and the generation's.
  config.ignore({"architectures", "attention_dropout", "bos_token_id", "dtype", "eos_token_id",
                 "initializer_range", "max_position_embeddings", "pad_token_id", "tie_word_embeddings",
                 "torch_dtype", "transformers_version", "use_cache"});
  config.require_all_read();
}

LlamaEncoder::LlamaEncoder(const Weights& root, const LlamaConfig& config, int64_t skip_layers)
    : config_(config) {
  if (skip_layers < 0 || skip_layers > config.num_layers)
    throw Error(fmt::format("{} layers are left out of a text encoder of {}", skip_layers, config.num_layers),
                fmt::format("0 to {} are possible", config.num_layers));
  // The body of a language model is saved below `model.`, a LlamaModel at the top.
  constexpr std::string_view kProbe = "embed_tokens.weight";
  const bool below = (root / "model").has(kProbe) && !root.has(kProbe);
  const Weights w = below ? root / "model" : root;
  const int64_t c = config.hidden_size, inner = config.num_heads * config.head_dim,
                kv = config.num_kv_heads * config.head_dim;
  embedding_ = w.tensor(kProbe, {config.vocab_size, c});
  static constexpr std::array<std::string_view, 3> kQkv = {"q_proj", "k_proj", "v_proj"};
  static constexpr std::array<std::string_view, 2> kGateUp = {"gate_proj", "up_proj"};
  const std::array<int64_t, 3> qkv_sizes = {inner, kv, kv};
  const std::array<int64_t, 2> gate_sizes = {config.intermediate_size, config.intermediate_size};
  for (int64_t i = 0; i < config.num_layers - skip_layers; ++i) {
    const Weights from = w / "layers" / i;
    Layer layer;
    layer.attention_norm = RmsNorm(from / "input_layernorm", c, config.eps);
    layer.qkv = (from / "self_attn").stacked(kQkv, qkv_sizes, c, false);
    layer.o = (from / "self_attn").linear("o_proj", c, inner, false);
    layer.mlp_norm = RmsNorm(from / "post_attention_layernorm", c, config.eps);
    layer.gate_up = (from / "mlp").stacked(kGateUp, gate_sizes, c, false);
    layer.down = (from / "mlp").linear("down_proj", c, config.intermediate_size, false);
    layers_.push_back(std::move(layer));
  }
  if (skip_layers == 0) final_norm_ = RmsNorm(w / "norm", c, config.eps);
  leave_out(below ? "model." : "", skip_layers);
}

void LlamaEncoder::leave_out(std::string_view prefix, int64_t skip_layers) {
  ignored_names_ = {"lm_head."};
  // What old versions saved of the rotation.
  for (int64_t i = 0; i < config_.num_layers; ++i)
    ignored_names_.push_back(i < config_.num_layers - skip_layers
                                 ? fmt::format("{}layers.{}.self_attn.rotary_emb.", prefix, i)
                                 : fmt::format("{}layers.{}.", prefix, i));
  if (skip_layers > 0) ignored_names_.push_back(fmt::format("{}norm.", prefix));
  ignored_.assign(ignored_names_.begin(), ignored_names_.end());
}

// In fp32 on the device, rounded to the stream's dtype before use. x [B, L, C]
LlamaEncoder::Rotation LlamaEncoder::rotation(const at::Tensor& x) const {
  const at::TensorOptions fp32 = x.options().dtype(at::kFloat);
  const at::Tensor exponents = at::arange(0, config_.head_dim, 2, fp32) / double(config_.head_dim);
  const at::Tensor frequencies = at::pow(config_.rope_theta, exponents).reciprocal();
  const at::Tensor angles = at::arange(x.size(1), fp32).unsqueeze(1) * frequencies;
  const at::Tensor both = at::cat({angles, angles}, -1);
  return {both.cos().to(x.scalar_type()), both.sin().to(x.scalar_type())};
}

at::Tensor LlamaEncoder::attend(const Layer& layer, const at::Tensor& x, const Rotation& rotation) const {
  const int64_t d = config_.head_dim, kv_heads = config_.num_kv_heads, groups = config_.num_heads / kv_heads;
  const auto parts = layer.qkv(layer.attention_norm(x))
                         .split_with_sizes({groups * kv_heads * d, kv_heads * d, kv_heads * d}, -1);
  const auto heads = [&](const at::Tensor& part) {
    return part.unflatten(-1, {-1, d}).transpose(1, 2);  // [B, heads, L, d]
  };
  // Each key and value serves `groups` queries, which stand side by side.
  const auto repeated = [&](const at::Tensor& t) {
    return t.unsqueeze(2).expand({-1, -1, groups, -1, -1}).flatten(1, 2);
  };
  const at::Tensor out = plain_attention({.q = rotation(heads(parts[0])),
                                          .k = repeated(rotation(heads(parts[1]))),
                                          .v = repeated(heads(parts[2])),
                                          .bias = {},
                                          .scale = 1 / std::sqrt(double(d)),
                                          .causal = true});
  return layer.o(out.transpose(1, 2).flatten(2));
}

at::Tensor LlamaEncoder::operator()(
    const at::Tensor& ids, const std::function<void(const std::string&, const at::Tensor&)>& observe) const {
  TORCH_CHECK(ids.dim() == 2 && ids.scalar_type() == at::kLong && ids.size(1) >= 1,
              "Llama takes int64 ids [B, L], not ", ids.scalar_type(), " ", ids.sizes());
  check_ids(ids, config_.vocab_size);
  at::Tensor x = at::embedding(embedding_, ids);
  if (observe) observe("embeddings", x);
  const Rotation turn = rotation(x);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    x = x + attend(layer, x, turn);
    const auto halves = layer.gate_up(layer.mlp_norm(x)).chunk(2, -1);
    x = x + layer.down(activate(config_.activation, halves[0]).mul_(halves[1]));
    if (observe) observe(fmt::format("layer.{}", i), x);
  }
  return final_norm_.weight.defined() ? final_norm_(x) : x;
}

}  // namespace sagelab
