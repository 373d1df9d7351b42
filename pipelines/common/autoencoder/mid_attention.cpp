// SPDX-License-Identifier: Apache-2.0
#include "pipelines/common/autoencoder/mid_attention.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace sagelab {
namespace {

// diffusers' names before Attention was one class.
struct Names {
  const char *q, *k, *v, *out;
};
constexpr Names kNames{"to_q", "to_k", "to_v", "to_out.0"}, kOldNames{"query", "key", "value", "proj_attn"};

// a's queries are `frames` frames of as many rows: each sees its own frame and those before, so that no mask
// is needed.
at::Tensor causal_by_frame(const PlainAttention& a, int64_t frames) {
  const int64_t rows = a.q.size(2), frame = rows / frames;
  at::Tensor out;
  for (int64_t t = 0; t < frames; ++t) {
    const int64_t seen = (t + 1) * frame, step = std::max<int64_t>(1, kMostScores / seen);
    const at::Tensor k = a.k.narrow(2, 0, seen), v = a.v.narrow(2, 0, seen);
    for (int64_t row = t * frame; row < seen; row += step) {
      const int64_t n = std::min(step, seen - row);
      const at::Tensor part = plain_attention({a.q.narrow(2, row, n), k, v, {}, a.scale});
      if (n == rows) return part;
      if (!out.defined()) out = at::empty(a.q.sizes(), part.options());
      out.narrow(2, row, n).copy_(part);
    }
  }
  return out;
}

}  // namespace

MidAttention::MidAttention(const Weights& w, int64_t channels, int64_t groups, double eps)
    : group_norm(w / "group_norm", groups, channels, eps) {
  const Names& names = w.has("to_q.weight") || !w.has("query.weight") ? kNames : kOldNames;
  q = w.linear(names.q, channels, channels);
  k = w.linear(names.k, channels, channels);
  v = w.linear(names.v, channels, channels);
  out = w.linear(names.out, channels, channels);
}

at::Tensor MidAttention::operator()(const at::Tensor& x) const {
  const int64_t channels = x.size(1), frames = x.dim() == 5 ? x.size(2) : 1;
  at::Tensor rows = group_norm(x.flatten(2)).transpose(1, 2);  // [1, THW, C]
  const auto heads = [&](const Linear& linear) { return linear(rows).unsqueeze(1); };
  PlainAttention attention{heads(q), heads(k), heads(v), {}, 1 / std::sqrt(double(channels))};
  rows = causal_by_frame(attention, frames).squeeze(1);
  attention = {};
  return out(rows).transpose(1, 2).reshape(x.sizes()) + x;
}

}  // namespace sagelab
