// SPDX-License-Identifier: Apache-2.0
#include "pipelines/common/joint/blocks.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "pipelines/core/modulate/swiglu.h"

namespace sagelab {
namespace {

constexpr double kNormEps = 1e-6;

}  // namespace

const LayerNorm& plain_norm() {
  static const LayerNorm norm = [] {
    LayerNorm n;
    n.eps = kNormEps;
    return n;
  }();
  return norm;
}

attention::Norm head_norm(const Weights& attn, std::string_view name, int64_t head_dim) {
  return {attention::Norm::Kind::Rms, (attn / name).tensor("weight", {head_dim}), {}, kNormEps};
}

at::Tensor Streams::rows(const at::Tensor& x, size_t stream) const {
  return x.narrow(1, bounds[stream], bounds[stream + 1] - bounds[stream]);
}

attention::Segment segment_of(const at::Tensor& qkv, const Projections& projections, int64_t heads) {
  const at::Tensor split = qkv.unflatten(2, {3, heads, -1});
  attention::Segment s;
  s.q = split.select(2, 0);
  s.k = split.select(2, 1);
  s.v = split.select(2, 2);
  s.q_norm = projections.norm_q;
  s.k_norm = projections.norm_k;
  return s;
}

void attend_jointly(std::span<const attention::Segment> segments, const attention::Site& site,
                    const Forward& forward) {
  const Profile::Section section(forward.profile, "attention");
  const double head_dim = double(segments.front().k.size(3));
  forward.attention.run_joint({segments, 1.0 / std::sqrt(head_dim), site}, forward.recorder);
}

FeedForward FeedForward::of(const Weights& w, int64_t dim) {
  return {w.linear("net.0.proj", 4 * dim, dim), w.linear("net.2", dim, 4 * dim)};
}

void feed_forward_(const FeedForward& ff, const at::Tensor& rows) {
  const at::Tensor hidden = at::empty({rows.size(0), rows.size(1), ff.in.weight.size(0)}, rows.options());
  linear_gelu_into(ff.in, rows, hidden);
  linear_into(ff.out, hidden, rows);
}

void feed_forward_swiglu_(const FeedForward& ff, const at::Tensor& rows, int64_t at_once) {
  for (int64_t begin = 0; begin < rows.size(1); begin += at_once) {
    const at::Tensor part = rows.narrow(1, begin, std::min(at_once, rows.size(1) - begin));
    const at::Tensor both = at::empty({part.size(0), part.size(1), ff.in.weight.size(0)}, rows.options());
    linear_into(ff.in, part, both);
    linear_into(ff.out, swiglu_(both), part);
  }
}

void check_condition(const Condition& c, const at::Tensor& latents, const char* of) {
  const int64_t batch = latents.size(0);
  TORCH_CHECK(c.text.dim() == 3 && c.text.size(0) == batch && c.text.size(2) == c.text_channels,
              "text should be [", batch, ", L, ", c.text_channels, "], not ", c.text.sizes());
  TORCH_CHECK(c.pooled.dim() == 2 && c.pooled.size(0) == batch && c.pooled.size(1) == c.pooled_channels,
              "pooled should be [", batch, ", ", c.pooled_channels, "], not ", c.pooled.sizes());
  TORCH_CHECK(c.t.dim() == 1 && c.t.size(0) == batch, "t should be [", batch, "], not ", c.t.sizes());
  for (const auto& [name, tensor] : {std::pair{"text", c.text}, {"pooled", c.pooled}})
    TORCH_CHECK(tensor.scalar_type() == latents.scalar_type(), name, " is ", tensor.scalar_type(), ", ", of,
                " are ", latents.scalar_type());
}

void check_lengths(const at::Tensor& lengths, int64_t batch, int64_t least, int64_t padded) {
  TORCH_CHECK(lengths.defined() && lengths.is_cpu() && lengths.scalar_type() == at::kLong &&
                  lengths.sizes() == at::IntArrayRef({batch}),
              "lengths should be int64 [", batch, "] on the CPU");
  for (int64_t i = 0; i < batch; ++i) {
    const auto length = lengths[i].item<int64_t>();
    TORCH_CHECK(length >= least && length <= padded, "lengths should be ", least, " to ", padded, ", not ",
                length);
  }
}

void observe(const Forward& forward, const std::string& name, const at::Tensor& value) {
  if (forward.observe) forward.observe(name, value.clone());
}

}  // namespace sagelab
