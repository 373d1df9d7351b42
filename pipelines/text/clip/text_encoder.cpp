// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/clip/text_encoder.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <array>
#include <cmath>

#include "attention/error.h"
#include "pipelines/text/encoder_parts.h"

namespace sagelab {
namespace {

constexpr std::string_view kPrefix = "text_model";

// Where the tower's keys start: in files saved by transformers 4 below `text_model.`, in those of a
// CLIPTextModel that transformers 5 saved at the top.
Weights tower(const Weights& w) {
  constexpr std::string_view kProbe = "embeddings.token_embedding.weight";
  const bool bare = w.has(kProbe) && !(w / kPrefix).has(kProbe);
  return bare ? w : w / kPrefix;
}

}  // namespace

ClipTextConfig::ClipTextConfig(Config& config)
    : vocab_size(config.size("vocab_size", 49408, 10000000)),
      hidden_size(config.size("hidden_size", 512, 65536)),
      intermediate_size(config.size("intermediate_size", 2048, 262144)),
      projection_dim(config.size("projection_dim", 512, 65536)),
      num_layers(config.size("num_hidden_layers", 12, 1000)),
      num_heads(config.size("num_attention_heads", 8, 1024)),
      max_positions(config.size("max_position_embeddings", 77, 1000000)),
      eos_token_id(config.at_least("eos_token_id", 49407, 0)),
      activation(read_activation(config, "hidden_act", "quick_gelu")),
      eps(config.number("layer_norm_eps", 1e-5)) {
  if (hidden_size % num_heads != 0)
    throw Error(fmt::format("{}: hidden_size = {} is no multiple of num_attention_heads = {}", config.where(),
                            hidden_size, num_heads));
  config.only("model_type", "clip_text_model");
  // The training's, the tokenizer's and the generation's.
  config.ignore({"architectures", "attention_dropout", "bos_token_id", "dropout", "dtype",
                 "gradient_checkpointing", "initializer_factor", "initializer_range", "pad_token_id",
                 "torch_dtype", "transformers_version"});
  config.require_all_read();
}

ClipTextEncoder::ClipTextEncoder(const Weights& root, const ClipTextConfig& config, Projection projection)
    : config_(config) {
  const Weights w = tower(root);
  const int64_t c = config.hidden_size;
  token_embedding_ = (w / "embeddings").tensor("token_embedding.weight", {config.vocab_size, c});
  position_embedding_ = (w / "embeddings").tensor("position_embedding.weight", {config.max_positions, c});
  static constexpr std::array<std::string_view, 3> kQkv = {"q_proj", "k_proj", "v_proj"};
  const std::array<int64_t, 3> sizes = {c, c, c};
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const Weights from = w / "encoder" / "layers" / i;
    Layer layer;
    layer.attention_norm = LayerNorm(from / "layer_norm1", c, config.eps);
    layer.qkv = (from / "self_attn").stacked(kQkv, sizes, c);
    layer.out = (from / "self_attn").linear("out_proj", c, c);
    layer.mlp_norm = LayerNorm(from / "layer_norm2", c, config.eps);
    layer.fc1 = (from / "mlp").linear("fc1", config.intermediate_size, c);
    layer.fc2 = (from / "mlp").linear("fc2", c, config.intermediate_size);
    layers_.push_back(std::move(layer));
  }
  final_norm_ = LayerNorm(w / "final_layer_norm", c, config.eps);
  if (projection == Projection::Text)
    projection_ = root.linear("text_projection", config.projection_dim, c, false);
}

std::span<const std::string_view> ClipTextEncoder::ignored() const {
  // Positions as a tensor: what old versions saved. A file of a model with projection serves one without.
  static constexpr std::array<std::string_view, 3> kKeys = {"text_model.embeddings.position_ids",
                                                            "embeddings.position_ids", "text_projection."};
  return std::span(kKeys).first(projection_.weight.defined() ? 2 : 3);
}

void ClipTextEncoder::check(const at::Tensor& ids, int64_t clip_skip) const {
  TORCH_CHECK(ids.dim() == 2 && ids.scalar_type() == at::kLong && ids.size(1) >= 1 &&
                  ids.size(1) <= config_.max_positions,
              "CLIP takes int64 ids [B, 1 to ", config_.max_positions, "], not ", ids.scalar_type(), " ",
              ids.sizes());
  if (clip_skip < 0 || clip_skip >= config_.num_layers)
    throw Error(fmt::format("clip_skip = {} with a text encoder of {} layers", clip_skip, config_.num_layers),
                fmt::format("0 to {} are possible", config_.num_layers - 1));
  check_ids(ids, config_.vocab_size);
}

at::Tensor ClipTextEncoder::attend(const Layer& layer, const at::Tensor& x) const {
  const int64_t head_dim = config_.hidden_size / config_.num_heads;
  const at::Tensor qkv = layer.qkv(layer.attention_norm(x)).unflatten(-1, {3, config_.num_heads, head_dim});
  const auto part = [&](int64_t i) { return qkv.select(2, i).transpose(1, 2); };  // [B, H, L, head_dim]
  const at::Tensor out = plain_attention({.q = part(0),
                                          .k = part(1),
                                          .v = part(2),
                                          .bias = {},
                                          .scale = 1 / std::sqrt(double(head_dim)),
                                          .causal = true});
  return layer.out(out.transpose(1, 2).flatten(2));
}

at::Tensor ClipTextEncoder::end_positions(const at::Tensor& ids) const {
  // The first of several: prompts are often padded with the end token.
  if (config_.eos_token_id == 2) return ids.argmax(-1);
  return ids.eq(config_.eos_token_id).to(at::kInt).argmax(-1);
}

ClipText ClipTextEncoder::operator()(
    const at::Tensor& ids, int64_t clip_skip,
    const std::function<void(const std::string&, const at::Tensor&)>& observe) const {
  check(ids, clip_skip);
  at::Tensor x = at::embedding(token_embedding_, ids) + position_embedding_.narrow(0, 0, ids.size(1));
  if (observe) observe("embeddings", x);
  ClipText text;
  // hidden_states has the embeddings in front of the layers.
  const int64_t wanted = config_.num_layers - 1 - clip_skip;
  if (wanted == 0) text.hidden = x;
  for (int64_t i = 0; i < config_.num_layers; ++i) {
    const Layer& layer = layers_[size_t(i)];
    x = x + attend(layer, x);
    x = x + layer.fc2(activate(config_.activation, layer.fc1(layer.mlp_norm(x))));
    if (observe) observe(fmt::format("layer.{}", i), x);
    if (wanted == i + 1) text.hidden = x;
  }
  text.last_hidden = final_norm_(x);
  const at::Tensor rows = at::arange(ids.size(0), ids.options());
  text.pooled = text.last_hidden.index({rows, end_positions(ids)});
  if (projection_.weight.defined()) text.embeds = projection_(text.pooled);
  return text;
}

}  // namespace sagelab
