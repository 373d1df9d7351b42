// SPDX-License-Identifier: Apache-2.0
// Each layer against its formula in fp64, written out here from elementary operations; norms with inputs of
// tiny variance, so that a wrong eps shows.
#include "pipelines/core/layers.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <cmath>

#include "pipelines/core/weights.h"
#include "tests/pipelines/core/files.h"
#include "tests/support/memory_meter.h"
#include "tests/support/parity.h"

namespace sagelab::testing {
namespace {

Weights random_weights() {
  return Weights(random_source(5), {at::kCPU, at::kFloat});
}

at::Tensor normal(at::IntArrayRef shape, uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  return at::empty(shape).normal_(0, 1, generator);
}

at::Tensor wide(const at::Tensor& x) {
  return x.to(at::kDouble);
}

// As two factors of x: a mean apart from 0, and variances from 1e-8 (below any eps) to 1.
at::Tensor uneven(at::IntArrayRef shape) {
  at::Tensor x = normal(shape, 3);
  x.select(0, 0).mul_(1e-4);
  x.select(0, 1).mul_(1e-2);
  return x;
}

TEST(Layers, Linear) {
  const Linear layer = random_weights().linear("l", 5, 7);
  const at::Tensor x = normal({2, 3, 7}, 1);
  const at::Tensor expected = (wide(x).unsqueeze(-2) * wide(layer.weight)).sum(-1) + wide(layer.bias);
  EXPECT_LT(relative_l2(layer(x), expected), 1e-6);
  const Linear bare = random_weights().linear("l", 5, 7, false);
  EXPECT_FALSE(bare.bias.defined());
  EXPECT_LT(relative_l2(bare(x), expected - wide(layer.bias)), 1e-6);
}

at::Tensor layer_norm(const at::Tensor& x, double eps) {
  const at::Tensor centred = wide(x) - wide(x).mean(-1, true);
  return centred / (centred.square().mean(-1, true) + eps).sqrt();
}

TEST(Layers, LayerNorm) {
  const at::Tensor x = uneven({3, 4, 32}) + 1;
  for (const double eps : {1e-5, 1e-6}) {
    const LayerNorm norm(random_weights() / "norm", 32, eps);
    const at::Tensor y = layer_norm(x, eps);
    EXPECT_LT(relative_l2(norm(x)[0], (y * wide(norm.weight) + wide(norm.bias))[0]), 2e-3)
        << "rounding of the mean";
    EXPECT_LT(relative_l2(norm(x)[2], (y * wide(norm.weight) + wide(norm.bias))[2]), 1e-6);
    EXPECT_GT(relative_l2(norm(x)[0], (layer_norm(x, eps * 10) * wide(norm.weight) + wide(norm.bias))[0]),
              1e-2);
    EXPECT_LT(relative_l2(LayerNorm(random_weights(), 32, eps, false)(x)[2], y[2]), 1e-6);
    const LayerNorm no_bias(random_weights() / "norm", 32, eps, true, false);
    EXPECT_FALSE(no_bias.bias.defined());
    EXPECT_LT(relative_l2(no_bias(x)[2], (y * wide(norm.weight))[2]), 1e-6);
  }
}

TEST(Layers, RmsNorm) {
  const at::Tensor x = uneven({3, 4, 32});
  const RmsNorm norm(random_weights() / "norm", 32, 1e-6);
  const auto expected = [&](double eps) {
    return wide(x) / (wide(x).square().mean(-1, true) + eps).sqrt() * wide(norm.weight);
  };
  for (int i = 0; i < 3; ++i) EXPECT_LT(relative_l2(norm(x)[i], expected(1e-6)[i]), 1e-6);
  EXPECT_GT(relative_l2(norm(x)[0], expected(1e-5)[0]), 1e-2);
}

// transformers' T5LayerNorm rounds before the weight where the weight is half, and keeps fp32 where it is
// not.
TEST(Layers, RmsNormRoundsWhereTransformersDoes) {
  RmsNorm norm(random_weights() / "norm", 32, 1e-6);
  const at::Tensor x = normal({3, 32}, 4);
  norm.weight = norm.weight.to(at::kBFloat16);
  const at::Tensor unit = x * at::rsqrt(x.square().mean(-1, true) + 1e-6);
  EXPECT_TRUE(at::equal(norm(x), norm.weight * unit.to(at::kBFloat16)));
  EXPECT_EQ(norm(x).scalar_type(), at::kBFloat16);
  norm.weight = norm.weight.to(at::kFloat);
  EXPECT_EQ(norm(x.to(at::kHalf)).scalar_type(), at::kFloat);
}

TEST(Layers, GroupNorm) {
  const at::Tensor x = uneven({3, 8, 2, 3, 4});
  const GroupNorm norm(random_weights() / "norm", 4, 8, 1e-6);
  const auto expected = [&](double eps) {
    const at::Tensor y = layer_norm(x.reshape({3, 4, 48}), eps).reshape(x.sizes());
    return y * wide(norm.weight).view({8, 1, 1, 1}) + wide(norm.bias).view({8, 1, 1, 1});
  };
  for (int i = 0; i < 3; ++i) EXPECT_LT(relative_l2(norm(x)[i], expected(1e-6)[i]), 1e-6);
  EXPECT_GT(relative_l2(norm(x)[0], expected(1e-5)[0]), 1e-2);
}

TEST(Layers, Conv2d) {
  const at::Tensor x = normal({2, 3, 6, 5}, 2);
  const Conv2d conv(random_weights() / "conv", 4, 3, {3, 2, 1});
  const at::Tensor padded = at::constant_pad_nd(wide(x), {1, 1, 1, 1}), weight = wide(conv.weight);
  at::Tensor expected = at::zeros({2, 4, 3, 3}, at::kDouble);
  for (int row = 0; row < 3; ++row)
    for (int column = 0; column < 3; ++column) {
      const at::Tensor window = padded.narrow(2, 2 * row, 3).narrow(3, 2 * column, 3).unsqueeze(1);
      expected.select(3, column).select(2, row).copy_((window * weight).sum({2, 3, 4}) + wide(conv.bias));
    }
  EXPECT_LT(relative_l2(conv(x), expected), 1e-6);
}

TEST(Layers, Activations) {
  const at::Tensor x = at::linspace(-6, 6, 401), d = wide(x);
  const auto tanh_form = [&](double root) {
    return 0.5 * d * (1 + at::tanh(root * (d + 0.044715 * d * d * d)));
  };
  const at::Tensor gelu_tanh = tanh_form(std::sqrt(2 / M_PI));
  const std::vector<std::pair<const char*, at::Tensor>> cases = {
      {"silu", d / (1 + at::exp(-d))},
      {"swish", d / (1 + at::exp(-d))},
      {"gelu", 0.5 * d * (1 + at::erf(d / std::sqrt(2.0)))},
      {"gelu-approximate", gelu_tanh},
      {"gelu_pytorch_tanh", gelu_tanh},
      {"gelu_new", gelu_tanh},
      {"quick_gelu", d / (1 + at::exp(-1.702 * d))},
      {"relu", d * (d > 0)}};
  for (const auto& [name, expected] : cases)
    EXPECT_LT(relative_l2(activate(activation_from(name), x), expected), 1e-6) << name;
  EXPECT_NE(activation_from("gelu_new"), activation_from("gelu-approximate"))
      << "they round differently in bf16";
  EXPECT_EQ(
      error_of([] { activation_from("mish"); }),
      "activation \"mish\" is not supported | known: silu, swish, gelu, gelu-approximate, gelu_pytorch_tanh, "
      "gelu_new, quick_gelu, relu");
}

// transformers' NewGELUActivation rounds after every operation.
TEST(Layers, GeluNewRoundsStepByStep) {
  const at::Tensor x = at::linspace(-4, 4, 999).to(at::kBFloat16);
  const at::Tensor cube = at::pow(x, 3.0), inner = x + 0.044715 * cube;
  const at::Tensor expected = 0.5 * x * (1.0 + at::tanh(std::sqrt(2.0 / M_PI) * inner));
  EXPECT_TRUE(at::equal(activate(Activation::GeluNew, x), expected));
  EXPECT_FALSE(at::equal(activate(Activation::GeluTanh, x), expected));
}

TEST(Layers, Sinusoid) {
  const at::Tensor t = at::tensor({0, 1, 437, 999}, at::kLong);
  for (const auto& [dim, flip, shift] :
       {std::tuple(8, true, 0.0), std::tuple(8, false, 1.0), std::tuple(7, true, 0.0)}) {
    const at::Tensor values = sinusoid(t, dim, flip, shift);
    ASSERT_EQ(values.sizes(), (at::IntArrayRef{4, dim}));
    EXPECT_EQ(values.scalar_type(), at::kFloat);
    const int half = dim / 2;
    for (int row = 0; row < 4; ++row)
      for (int j = 0; j < dim; ++j) {
        const double angle =
            t[row].item<int64_t>() * std::exp(-std::log(10000.0) * (j % half) / (half - shift));
        const double expected = j >= 2 * half ? 0 : (j < half) == flip ? std::cos(angle) : std::sin(angle);
        EXPECT_NEAR(values[row][j].item<float>(), expected, 1e-4) << row << " " << j;
      }
  }
}

TEST(Layers, TimestepEmbedding) {
  const TimestepEmbedding layer(random_weights() / "time_embedding", 6, 10, 4, Activation::Silu);
  const at::Tensor x = normal({2, 6}, 8);
  const at::Tensor hidden = at::matmul(wide(x), wide(layer.linear_1.weight).t()) + wide(layer.linear_1.bias);
  const at::Tensor expected = at::matmul(hidden / (1 + at::exp(-hidden)), wide(layer.linear_2.weight).t()) +
                              wide(layer.linear_2.bias);
  EXPECT_LT(relative_l2(layer(x), expected), 1e-6);
}

TEST(Layers, PlainAttention) {
  const at::Tensor q = normal({2, 3, 5, 8}, 1), k = normal({2, 3, 5, 8}, 2), v = normal({2, 3, 5, 8}, 3);
  const at::Tensor bias = normal({1, 3, 5, 5}, 4);
  const auto expected = [&](const at::Tensor& added) {
    const at::Tensor scores = at::matmul(wide(q), wide(k).transpose(2, 3)) * 0.7 + added;
    const at::Tensor p = at::exp(scores - scores.amax(-1, true));
    return at::matmul(p / p.sum(-1, true), wide(v));
  };
  EXPECT_LT(relative_l2(plain_attention({q, k, v, {}, 0.7}), expected(at::zeros({1}, at::kDouble))), 1e-6);
  EXPECT_LT(relative_l2(plain_attention({q, k, v, bias, 0.7}), expected(wide(bias))), 1e-6);
  const at::Tensor later = at::ones({5, 5}, at::kDouble).triu(1) * -1e9;
  EXPECT_LT(relative_l2(plain_attention({q, k, v, {}, 0.7, true}), expected(later)), 1e-6);
  for (const int64_t scores : {1, 2 * 5 * 5, 2 * 2 * 5 * 5, 1000}) {  // heads at once: 1, 1, 2, 3
    EXPECT_LT(relative_l2(unfused_attention({q, k, v, bias, 0.7}, scores), expected(wide(bias))), 1e-6);
    const at::Tensor shared = bias.narrow(1, 0, 1);
    EXPECT_LT(relative_l2(unfused_attention({q, k, v, shared, 0.7}, scores), expected(wide(shared))), 1e-6);
  }
}

// More scores than are written down at once.
TEST(Layers, PlainAttentionOnAGpu) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
  const auto drawn = [](int64_t columns, uint64_t seed) { return normal({1, 64, 300, columns}, seed); };
  const at::Tensor q = drawn(8, 1), k = drawn(8, 2), v = drawn(8, 3), bias = drawn(300, 4);
  const at::Tensor ours = plain_attention({q.cuda(), k.cuda(), v.cuda(), bias.cuda(), 0.7});
  EXPECT_LT(relative_l2(ours, plain_attention({wide(q), wide(k), wide(v), wide(bias), 0.7})), 1e-5);
}

// Of T5's 64 heads and 512 rows, three times the scores in fp32 would be 201 MB.
TEST(Layers, UnfusedAttentionHoldsFewScores) {
  const auto drawn = [](uint64_t seed) { return normal({1, 64, 128, 8}, seed).to(at::kBFloat16); };
  const at::Tensor q = drawn(1), k = drawn(2), v = drawn(3);
  const at::Tensor bias = normal({1, 64, 128, 128}, 4).to(at::kBFloat16);
  const int64_t scores = 64 * 128 * 128;
  const auto peak = [&](int64_t most) {
    return peak_bytes_of([&] { unfused_attention({q, k, v, bias, 1}, most); });
  };
  const int64_t whole = peak(scores), part = peak(scores / 8);
  EXPECT_GT(whole, 2 * 4 * scores);
  EXPECT_LT(part, whole / 3);
}

}  // namespace
}  // namespace sagelab::testing
