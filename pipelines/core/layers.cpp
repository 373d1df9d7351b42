// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/layers.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "attention/error.h"
#include "pipelines/core/weights.h"

namespace sagelab {
namespace {

// Of attention that writes its scores down, in fp32 and three times: the limit leaves T5's smaller than what
// its feed-forward takes.
constexpr int64_t kMostScores = int64_t(1) << 22;

}  // namespace

LayerNorm::LayerNorm(const Weights& w, int64_t dim, double eps, bool affine, bool has_bias) : eps(eps) {
  if (!affine) return;
  weight = w.tensor("weight", {dim});
  if (has_bias) bias = w.tensor("bias", {dim});
}

at::Tensor LayerNorm::operator()(const at::Tensor& x) const {
  return at::layer_norm(x, x.sizes().slice(x.dim() - 1), weight, bias, eps);
}

RmsNorm::RmsNorm(const Weights& w, int64_t dim, double eps) : weight(w.tensor("weight", {dim})), eps(eps) {}

at::Tensor RmsNorm::operator()(const at::Tensor& x) const {
  const at::Tensor variance = x.to(at::kFloat).square().mean(-1, true);
  at::Tensor y = x * at::rsqrt(variance + eps);  // fp32: the fp32 factor promotes a half x
  if (at::isReducedFloatingType(weight.scalar_type())) y = y.to(weight.scalar_type());
  return weight * y;
}

GroupNorm::GroupNorm(const Weights& w, int64_t groups, int64_t channels, double eps)
    : weight(w.tensor("weight", {channels})), bias(w.tensor("bias", {channels})), groups(groups), eps(eps) {}

at::Tensor GroupNorm::operator()(const at::Tensor& x) const {
  return at::group_norm(x, groups, weight, bias, eps);
}

Conv2d::Conv2d(const Weights& w, int64_t out, int64_t in, const Window& window, bool has_bias)
    : weight(w.tensor("weight", {out, in, window.kernel, window.kernel})),
      stride(window.stride),
      padding(window.padding) {
  if (has_bias) bias = w.tensor("bias", {out});
}

at::Tensor Conv2d::operator()(const at::Tensor& x) const {
  return at::conv2d(x, weight, bias, stride, padding);
}

Activation activation_from(std::string_view name) {
  if (name == "silu" || name == "swish") return Activation::Silu;
  if (name == "gelu") return Activation::Gelu;
  if (name == "gelu-approximate" || name == "gelu_pytorch_tanh") return Activation::GeluTanh;
  if (name == "gelu_new") return Activation::GeluNew;
  if (name == "quick_gelu") return Activation::QuickGelu;
  if (name == "relu") return Activation::Relu;
  throw Error("activation \"" + std::string(name) + "\" is not supported",
              "known: silu, swish, gelu, gelu-approximate, gelu_pytorch_tanh, gelu_new, quick_gelu, relu");
}

at::Tensor activate(Activation activation, const at::Tensor& x) {
  switch (activation) {
    case Activation::Silu:
      return at::silu(x);
    case Activation::Gelu:
      return at::gelu(x);
    case Activation::GeluTanh:
      return at::gelu(x, "tanh");
    case Activation::GeluNew:  // elementary operations, each rounded in x's dtype, as transformers'
                               // NewGELUActivation
      return 0.5 * x * (1.0 + at::tanh(std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * at::pow(x, 3.0))));
    case Activation::QuickGelu:
      return x * at::sigmoid(1.702 * x);
    case Activation::Relu:
      return at::relu(x);
  }
  TORCH_CHECK(false, "unknown activation");
}

at::Tensor sinusoid(const at::Tensor& t, int64_t dim, bool flip_sin_to_cos, double freq_shift) {
  const int64_t half = dim / 2;
  const auto options = t.options().dtype(at::kFloat);
  at::Tensor exponent = -std::log(10000.0) * at::arange(half, options) / (double(half) - freq_shift);
  at::Tensor angles = t.to(at::kFloat).unsqueeze(1) * at::exp(exponent).unsqueeze(0);
  at::Tensor out = flip_sin_to_cos ? at::cat({at::cos(angles), at::sin(angles)}, -1)
                                   : at::cat({at::sin(angles), at::cos(angles)}, -1);
  return dim % 2 ? at::constant_pad_nd(out, {0, 1}) : out;
}

TimestepEmbedding::TimestepEmbedding(const Weights& w, int64_t in, int64_t hidden, int64_t out,
                                     Activation activation)
    : linear_1(w.linear("linear_1", hidden, in)),
      linear_2(w.linear("linear_2", out, hidden)),
      activation(activation) {}

at::Tensor TimestepEmbedding::operator()(const at::Tensor& x) const {
  return linear_2(activate(activation, linear_1(x)));
}

at::Tensor unfused_attention(const PlainAttention& a, int64_t most_scores) {
  const int64_t heads = a.q.size(1);
  const int64_t of_one_head = std::max<int64_t>(1, a.q.size(0) * a.q.size(2) * a.k.size(2));
  const int64_t step = std::clamp<int64_t>(most_scores / of_one_head, 1, heads);
  std::vector<at::Tensor> parts;
  for (int64_t first = 0; first < heads; first += step) {
    const int64_t count = std::min(step, heads - first);
    const auto of = [&](const at::Tensor& x) { return x.size(1) == 1 ? x : x.narrow(1, first, count); };
    parts.push_back(std::get<0>(at::_scaled_dot_product_attention_math(of(a.q), of(a.k), of(a.v), of(a.bias),
                                                                       0.0, a.causal, {}, a.scale)));
  }
  return parts.size() == 1 ? parts[0] : at::cat(parts, 1);
}

at::Tensor plain_attention(const PlainAttention& a) {
  // On CUDA LibTorch 2.11 would take cuDNN's kernel, whose results with a bias were now and then far off
  // (T5's, bf16, lengths that are no multiple of 8). Text encoders run once: their unfused products cost
  // nothing that counts.
  if (a.bias.defined() && a.q.is_cuda()) return unfused_attention(a, kMostScores);
  const auto bias = a.bias.defined() ? std::optional(a.bias) : std::nullopt;
  return at::scaled_dot_product_attention(a.q, a.k, a.v, bias, 0.0, a.causal, a.scale);
}

}  // namespace sagelab
