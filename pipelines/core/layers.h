// SPDX-License-Identifier: Apache-2.0
// The layers that several families share: weights at construction, const from then on. Checkpoint names.
#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

#include "pipelines/core/linear/linear.h"

namespace sagelab {

class Weights;

// Over the last dimension. weight and bias undefined where elementwise_affine is false.
struct LayerNorm {
  at::Tensor weight, bias;
  double eps = 1e-5;
  LayerNorm() = default;
  LayerNorm(const Weights& w, int64_t dim, double eps, bool affine = true, bool bias = true);
  at::Tensor operator()(const at::Tensor& x) const;
};

// T5's and Llama's: variance in fp32, cast to the weight's dtype where that is half, then times weight.
struct RmsNorm {
  at::Tensor weight;
  double eps = 1e-6;
  RmsNorm() = default;
  RmsNorm(const Weights& w, int64_t dim, double eps);
  at::Tensor operator()(const at::Tensor& x) const;
};

struct GroupNorm {
  at::Tensor weight, bias;
  int64_t groups = 32;
  double eps = 1e-6;
  GroupNorm() = default;
  GroupNorm(const Weights& w, int64_t groups, int64_t channels, double eps);
  at::Tensor operator()(const at::Tensor& x) const;  // [B, C, ...]
};

struct Conv2d {
  at::Tensor weight, bias;  // [out, in, kh, kw]
  int64_t stride = 1, padding = 0;
  Conv2d() = default;
  struct Window {
    int64_t kernel = 1, stride = 1, padding = 0;
  };
  Conv2d(const Weights& w, int64_t out, int64_t in, const Window& window, bool bias = true);
  at::Tensor operator()(const at::Tensor& x) const;  // [B, in, H, W]
};

enum class Activation { Silu, Gelu, GeluTanh, GeluNew, QuickGelu, Relu };
// diffusers' and transformers' names: "silu"/"swish", "gelu", "gelu-approximate"/"gelu_pytorch_tanh",
// "gelu_new", "quick_gelu", "relu". Throws sagelab::Error naming the key's value where it is unknown.
Activation activation_from(std::string_view name);
at::Tensor activate(Activation activation, const at::Tensor& x);

// diffusers get_timestep_embedding: t [B] -> fp32 [B, dim].
at::Tensor sinusoid(const at::Tensor& t, int64_t dim, bool flip_sin_to_cos, double freq_shift);

// linear_1, activation, linear_2 (diffusers TimestepEmbedding).
struct TimestepEmbedding {
  Linear linear_1, linear_2;
  Activation activation = Activation::Silu;
  TimestepEmbedding() = default;
  TimestepEmbedding(const Weights& w, int64_t in, int64_t hidden, int64_t out, Activation activation);
  at::Tensor operator()(const at::Tensor& x) const;
};

struct PlainAttention {
  at::Tensor q, k, v;  // [B, H, S, D]
  at::Tensor bias;     // broadcastable to [B, H, Sq, Skv], or undefined
  double scale = 1;
  bool causal = false;
};
// softmax(q k^T scale + bias) v through LibTorch: text encoders and VAE mid-blocks, never the user's
// attention.
at::Tensor plain_attention(const PlainAttention& a);
// Likewise with a bias [1 or B, 1 or H, Sq, Skv], by LibTorch's products alone, a few heads at once, so that
// no more than so many scores (of one head at least) are written down.
at::Tensor unfused_attention(const PlainAttention& a, int64_t most_scores);

}  // namespace sagelab
