// SPDX-License-Identifier: Apache-2.0
#include "pipelines/flux/transformer.h"

#include <ATen/ATen.h>

namespace sagelab::flux {
namespace {

constexpr double kTimeScale = 1000;              // not in the config
constexpr size_t kTextRows = 0, kImageRows = 1;  // in their order

StackConfig stack_of(const TransformerConfig& c) {
  return {.layers = c.layers,
          .single_layers = c.single_layers,
          .heads = c.heads,
          .head_dim = c.head_dim,
          .clips_half = true};
}

void check_inputs(const TransformerConfig& c, const Inputs& in) {
  TORCH_CHECK(in.tokens.dim() == 3 && in.tokens.size(2) == c.in_channels, "tokens should be [B, N, ",
              c.in_channels, "], not ", in.tokens.sizes());
  const int64_t batch = in.tokens.size(0);
  check_condition({in.text, in.pooled, in.t, c.joint_attention_dim, c.pooled_projection_dim}, in.tokens,
                  "tokens");
  TORCH_CHECK(in.guidance.defined() == c.guidance_embeds, "guidance should be ",
              c.guidance_embeds ? "given" : "undefined", ": guidance_embeds is ", c.guidance_embeds);
  TORCH_CHECK(!c.guidance_embeds || (in.guidance.dim() == 1 && in.guidance.size(0) == batch),
              "guidance should be [", batch, "], not ", in.guidance.sizes());
  const int64_t rows = in.text.size(1) + in.tokens.size(1), half = c.head_dim / 2;
  TORCH_CHECK(in.rope.cos.defined() && in.rope.cos.sizes() == at::IntArrayRef({rows, half}),
              "rope should be rope_table's for ", in.text.size(1), " + ", in.tokens.size(1), " rows");
}

}  // namespace

Transformer::Transformer(const Weights& w, const TransformerConfig& c)
    : config_(c),
      x_embedder_(w.linear("x_embedder", c.dim(), c.in_channels)),
      context_embedder_(w.linear("context_embedder", c.dim(), c.joint_attention_dim)),
      condition_(w / "time_text_embed", c.dim(), c.pooled_projection_dim, c.guidance_embeds),
      stack_(w, stack_of(c)),
      output_(w, c.dim(), c.out_channels) {}

at::Tensor Transformer::embed_condition(const Inputs& in) const {
  const auto scaled = [&](const at::Tensor& x) {
    return x.defined() ? x.to(in.tokens.options()).mul(kTimeScale) : x;
  };
  return condition_(scaled(in.t), scaled(in.guidance), in.pooled);
}

at::Tensor Transformer::embed(const Inputs& in, const Stack::Pass& pass) const {
  const at::Tensor x = at::empty({in.tokens.size(0), pass.bounds[2], config_.dim()}, in.tokens.options());
  linear_into(context_embedder_, in.text, pass.rows(x, kTextRows));
  linear_into(x_embedder_, in.tokens, pass.rows(x, kImageRows));
  return x;
}

at::Tensor Transformer::operator()(const Inputs& inputs, const Forward& forward) const {
  check_inputs(config_, inputs);
  const int64_t text_len = inputs.text.size(1);
  Stack::Pass pass({{0, text_len, text_len + inputs.tokens.size(1)}}, inputs.rope, forward);
  at::Tensor x;
  {
    const Profile::Section section(forward.profile, "rest");
    const at::Tensor temb = embed_condition(inputs);
    observe(forward, "temb", temb);
    pass.conditioning = at::silu(temb);
    x = embed(inputs, pass);
  }
  observe(forward, "x_embedder", pass.rows(x, kImageRows));
  observe(forward, "context_embedder", pass.rows(x, kTextRows));
  stack_(x, pass);
  const Profile::Section section(forward.profile, "rest");
  return output_(pass.rows(x, kImageRows), pass.conditioning);
}

double flops(const TransformerConfig& c, int64_t image_len, int64_t text_len) {
  const double d = double(c.dim()), image = double(image_len), text = double(text_len);
  const double ends =
      image * d * double(c.in_channels + c.out_channels) + text * d * double(c.joint_attention_dim);
  return 2 * (multiply_adds(stack_of(c), image_len + text_len) + 2 * d * d + ends +
              multiply_adds_of_condition(c.dim(), c.pooled_projection_dim, c.guidance_embeds));
}

}  // namespace sagelab::flux
