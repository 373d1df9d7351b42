// SPDX-License-Identifier: Apache-2.0
#include "pipelines/mochi/condition.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace sagelab::mochi {

CaptionPool::CaptionPool(const Weights& w, const TransformerConfig& c)
    : to_kv_(w.linear("to_kv", 2 * c.text_embed_dim, c.text_embed_dim)),
      to_q_(w.linear("to_q", c.text_embed_dim, c.text_embed_dim)),
      to_out_(w.linear("to_out", c.dim(), c.text_embed_dim)) {}

at::Tensor CaptionPool::operator()(const at::Tensor& text) const {
  // The mean in fp32: rows of bf16 would not add up.
  const double rows = double(std::max<int64_t>(text.size(1), 1));
  const at::Tensor mean = text.to(at::kFloat).sum(1, true).div_(rows).to(text.scalar_type());
  const at::Tensor kv = to_kv_(at::cat({mean, text}, 1)).unflatten(2, {2, kHeads, -1});
  PlainAttention attention;
  attention.q = to_q_(mean).unflatten(2, {kHeads, -1}).transpose(1, 2);
  attention.k = kv.select(2, 0).transpose(1, 2);
  attention.v = kv.select(2, 1).transpose(1, 2);
  attention.scale = 1 / std::sqrt(double(attention.q.size(3)));
  return to_out_(plain_attention(attention).transpose(1, 2).flatten(1));
}

Condition::Condition(const Weights& w, const TransformerConfig& c)
    : timestep_(w / "timestep_embedder", c.time_embed_dim, c.dim(), c.dim(), Activation::Silu),
      pool_(w / "pooler", c),
      waves_(c.time_embed_dim) {}

at::Tensor Condition::operator()(const at::Tensor& t, const at::Tensor& text) const {
  const at::Tensor waves = sinusoid(t.to(text.device()), waves_, true, 0).to(text.scalar_type());
  return timestep_(waves).add_(pool_(text));
}

double multiply_adds_of_condition(const TransformerConfig& c, int64_t text_len) {
  const double d = double(c.dim()), e = double(c.text_embed_dim), rows = double(text_len) + 1;
  return (double(c.time_embed_dim) + d) * d + rows * 2 * e * e + e * e + e * d + 2 * rows * e;
}

}  // namespace sagelab::mochi
