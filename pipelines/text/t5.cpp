// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/t5.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <limits>
#include <string_view>

#include "attention/error.h"

namespace sagelab {
namespace {

// "relu", or "gated-gelu", where "gelu" means gelu_new; any other gated-X means X itself.
void read_feed_forward(Config& config, T5Config& t5) {
  const std::string name = config.text("feed_forward_proj", "relu");
  t5.gated = name.starts_with("gated-");
  const std::string activation = t5.gated ? name.substr(6) : name;
  try {
    t5.activation = name == "gated-gelu" ? Activation::GeluNew : activation_from(activation);
  } catch (const Error& error) {
    throw Error(fmt::format("{}: feed_forward_proj = \"{}\" is not supported", config.where(), name),
                error.hint());
  }
}

// Which of T5's buckets a distance falls into, for every query (rows) and key (columns).
at::Tensor relative_buckets(int64_t length, const T5Config& config, at::Device device) {
  const int64_t half = config.buckets / 2, exact = half / 2;
  const at::Tensor position = at::arange(length, at::TensorOptions().dtype(at::kLong).device(device));
  const at::Tensor relative = position.unsqueeze(0) - position.unsqueeze(1);
  const at::Tensor distance = relative.abs();
  // In fp32, as transformers: the rounding decides at bucket borders. The distance 0 is never read here.
  const at::Tensor far = at::log(distance.clamp_min(1).to(at::kFloat) / double(exact)) /
                         std::log(double(config.max_distance) / double(exact)) * double(half - exact);
  const at::Tensor logarithmic = (far.to(at::kLong) + exact).clamp_max(half - 1);
  return at::where(distance < exact, distance, logarithmic) + (relative > 0).to(at::kLong) * half;
}

double lowest(at::ScalarType dtype) {
  if (dtype == at::kHalf) return std::numeric_limits<at::Half>::lowest();
  if (dtype == at::kBFloat16) return std::numeric_limits<at::BFloat16>::lowest();
  return dtype == at::kDouble ? std::numeric_limits<double>::lowest() : std::numeric_limits<float>::lowest();
}

// A half precision residual stream overflows in large models: it is kept finite after each sub-layer.
at::Tensor keep_finite(const at::Tensor& x) {
  if (x.scalar_type() != at::kHalf) return x;
  const double largest = std::numeric_limits<at::Half>::max();
  const at::Tensor limit = at::where(x.isinf().any(), at::full({}, largest - 1000, x.options()),
                                     at::full({}, largest, x.options()));
  return x.clamp(-limit, limit);
}

}  // namespace

T5Config::T5Config(Config& config)
    : d_model(config.size("d_model", 512, 65536)),
      d_ff(config.size("d_ff", 2048, 262144)),
      d_kv(config.size("d_kv", 64, 65536)),
      num_heads(config.size("num_heads", 8, 1024)),
      num_layers(config.size("num_layers", 6, 1000)),
      vocab_size(config.size("vocab_size", 32128, 10000000)),
      buckets(config.at_least("relative_attention_num_buckets", 32, 4)),
      max_distance(config.at_least("relative_attention_max_distance", 128, buckets / 4 + 1)),
      eps(config.number("layer_norm_epsilon", 1e-6)) {
  read_feed_forward(config, *this);
  config.only("is_decoder", false);
  config.only("model_type", "t5");
  // The decoder's, the training's and the generation's. Activation and gate are told by feed_forward_proj
  // alone.
  config.ignore({"architectures",
                 "classifier_dropout",
                 "decoder_start_token_id",
                 "dense_act_fn",
                 "dropout_rate",
                 "dtype",
                 "eos_token_id",
                 "gradient_checkpointing",
                 "initializer_factor",
                 "is_encoder_decoder",
                 "is_gated_act",
                 "n_positions",
                 "num_decoder_layers",
                 "output_past",
                 "pad_token_id",
                 "scale_decoder_outputs",
                 "task_specific_params",
                 "tie_word_embeddings",
                 "torch_dtype",
                 "transformers_version",
                 "use_cache"});
  config.require_all_read();
}

T5Encoder::T5Encoder(const Weights& w, const T5Config& config) : config_(config) {
  const int64_t inner = config.num_heads * config.d_kv;
  const bool half = w.target().dtype == at::kHalf;
  const auto wo_dtype = half ? std::optional(at::kFloat) : std::nullopt;
  const Weights encoder = w / "encoder";
  // One tensor under two names; a file may hold either, or both.
  embedding_ = w.has("shared.weight")
                   ? w.tensor("shared.weight", {config.vocab_size, config.d_model})
                   : encoder.tensor("embed_tokens.weight", {config.vocab_size, config.d_model});
  relative_bias_ = (encoder / "block" / 0 / "layer" / 0 / "SelfAttention")
                       .tensor("relative_attention_bias.weight", {config.buckets, config.num_heads});
  static constexpr std::array<std::string_view, 3> kQkv = {"q", "k", "v"};
  static constexpr std::array<std::string_view, 2> kGate = {"wi_0", "wi_1"};
  const std::array<int64_t, 3> qkv_sizes = {inner, inner, inner};
  const std::array<int64_t, 2> gate_sizes = {config.d_ff, config.d_ff};
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const Weights layer = encoder / "block" / i / "layer";
    const Weights attention = layer / 0 / "SelfAttention", ff = layer / 1 / "DenseReluDense";
    Block block;
    block.attention_norm = RmsNorm(layer / 0 / "layer_norm", config.d_model, config.eps);
    block.ff_norm = RmsNorm(layer / 1 / "layer_norm", config.d_model, config.eps);
    block.qkv = attention.stacked(kQkv, qkv_sizes, config.d_model, false);
    block.o = attention.linear("o", config.d_model, inner, false);
    block.wi = config.gated ? ff.stacked(kGate, gate_sizes, config.d_model, false)
                            : ff.linear("wi", config.d_ff, config.d_model, false);
    block.wo = ff.linear("wo", config.d_model, config.d_ff, false, wo_dtype);
    blocks_.push_back(std::move(block));
  }
  final_norm_ = RmsNorm(encoder / "final_layer_norm", config.d_model, config.eps);
}

at::Tensor T5Encoder::attention_bias(int64_t length, const at::Tensor& mask) const {
  const at::Tensor buckets = relative_buckets(length, config_, relative_bias_.device());
  const at::Tensor bias =
      at::embedding(relative_bias_, buckets).permute({2, 0, 1}).unsqueeze(0);  // [1, H, L, L]
  if (!mask.defined()) return bias.contiguous();
  // The smallest finite number and not -inf: a row without any key is then a uniform softmax.
  const at::Tensor masked = at::full({}, lowest(bias.scalar_type()), bias.options());
  return at::where(mask.unsqueeze(1).unsqueeze(1), bias, masked).contiguous();
}

at::Tensor T5Encoder::attend(const Block& block, const at::Tensor& x, const at::Tensor& bias) const {
  const at::Tensor qkv =
      block.qkv(block.attention_norm(x)).unflatten(-1, {3, config_.num_heads, config_.d_kv});
  const auto part = [&](int64_t i) { return qkv.select(2, i).transpose(1, 2); };  // [B, H, L, d_kv]
  const at::Tensor out = plain_attention({part(0), part(1), part(2), bias});
  return block.o(out.transpose(1, 2).flatten(2));
}

at::Tensor T5Encoder::feed_forward(const Block& block, const at::Tensor& x) const {
  at::Tensor hidden = block.wi(block.ff_norm(x));
  if (config_.gated) {
    const auto halves = hidden.chunk(2, -1);
    hidden = activate(config_.activation, halves[0]).mul_(halves[1]);
  } else {
    hidden = activate(config_.activation, hidden);
  }
  const bool narrow = block.wo.scale.defined();  // 8 bits take rows as they are
  return block.wo(narrow ? hidden : hidden.to(block.wo.weight.scalar_type()));
}

at::Tensor T5Encoder::operator()(
    const at::Tensor& ids, const at::Tensor& mask,
    const std::function<void(const std::string&, const at::Tensor&)>& observe) const {
  TORCH_CHECK(ids.dim() == 2 && ids.scalar_type() == at::kLong, "T5 takes int64 ids [B, L], not ",
              ids.scalar_type(), " ", ids.sizes());
  TORCH_CHECK(!mask.defined() || (mask.sizes() == ids.sizes() && mask.scalar_type() == at::kBool),
              "T5 takes a bool mask of the ids' shape ", ids.sizes());
  const at::Tensor bias = attention_bias(ids.size(1), mask);
  at::Tensor x = at::embedding(embedding_, ids);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    x = keep_finite(x + attend(blocks_[i], x, bias));
    x = keep_finite(x + feed_forward(blocks_[i], x));
    if (observe) observe(fmt::format("block.{}", i), x);
  }
  return final_norm_(x);
}

}  // namespace sagelab
