// SPDX-License-Identifier: Apache-2.0
// Parts of transformers whose blocks attend over two streams of rows, text and image, in one buffer.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "attention/joint.h"
#include "pipelines/core/layers.h"
#include "pipelines/core/weights.h"
#include "pipelines/run.h"

namespace sagelab {

// Without parameters: a modulation follows. eps is in no config.
const LayerNorm& plain_norm();
// Of queries or keys, over each head: RMSNorm with a weight.
attention::Norm head_norm(const Weights& attn, std::string_view name, int64_t head_dim);

// The rows of x [B, S, ...]: stream s has [bounds[s], bounds[s + 1]).
struct Streams {
  std::array<int64_t, 3> bounds{};
  at::Tensor rows(const at::Tensor& x, size_t stream) const;
};

struct Projections {
  Linear qkv;  // stacked
  attention::Norm norm_q, norm_k;
};
// Of qkv [B, S, 3 * heads * head_dim]. Without rope and out: the caller says where the rows are and where the
// result goes.
attention::Segment segment_of(const at::Tensor& qkv, const Projections& projections, int64_t heads);

// Softmax over all of them at 1/sqrt(head_dim). site: the forward's, with its layer, call and block.
void attend_jointly(std::span<const attention::Segment> segments, const attention::Site& site,
                    const Forward& forward);

struct FeedForward {
  Linear in, out;
  // net.0.proj and net.2 of diffusers' FeedForward, whose inner width is four times dim.
  static FeedForward of(const Weights& w, int64_t dim);
};
// rows [B, S, D], part of a larger tensor: out(GELU(in(rows))) takes their place.
void feed_forward_(const FeedForward& ff, const at::Tensor& rows);
// The same with SwiGLU: in gives twice what out takes, so wide that rows take turns.
constexpr int64_t kFeedForwardRows = 16384;
void feed_forward_swiglu_(const FeedForward& ff, const at::Tensor& rows, int64_t at_once = kFeedForwardRows);

// What a forward is conditioned on, beside its latents of this batch and dtype.
struct Condition {
  const at::Tensor& text;    // [B, L, text_channels]
  const at::Tensor& pooled;  // [B, pooled_channels]
  const at::Tensor& t;       // [B]
  int64_t text_channels = 0, pooled_channels = 0;
};
// Throws c10::Error naming shapes and dtypes that do not fit. of: what the latents are called.
void check_condition(const Condition& condition, const at::Tensor& latents, const char* of);

// Throws c10::Error for lengths of a batch's texts that are no int64 [batch] on the CPU, or not from least to
// padded.
void check_lengths(const at::Tensor& lengths, int64_t batch, int64_t least, int64_t padded);

// A copy that stays as it is, for who looks.
void observe(const Forward& forward, const std::string& name, const at::Tensor& value);

}  // namespace sagelab
