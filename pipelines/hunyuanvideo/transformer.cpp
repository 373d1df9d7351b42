// SPDX-License-Identifier: Apache-2.0
#include "pipelines/hunyuanvideo/transformer.h"

#include <ATen/ATen.h>

#include <vector>

namespace sagelab::hunyuanvideo {
namespace {

constexpr double kGuidanceScale = 1000;          // not in the config
constexpr size_t kVideoRows = 0, kTextRows = 1;  // in their order

StackConfig stack_of(const TransformerConfig& c) {
  return {.layers = c.layers,
          .single_layers = c.single_layers,
          .heads = c.heads,
          .head_dim = c.head_dim,
          .image_first = true,
          .layers_before = c.refiner_layers};
}

// A convolution whose windows do not overlap is a linear over packed patches.
Linear patch_embedder(const Weights& w, const TransformerConfig& c) {
  Linear linear;
  linear.weight = w.tensor("weight", {c.dim(), c.in_channels, c.patch_size_t, c.patch_size, c.patch_size})
                      .view({c.dim(), -1});
  linear.bias = w.tensor("bias", {c.dim()});
  return linear;
}

void check_inputs(const TransformerConfig& c, const Inputs& in) {
  TORCH_CHECK(in.latents.dim() == 5 && in.latents.size(1) == c.in_channels, "latents should be [B, ",
              c.in_channels, ", T, h, w], not ", in.latents.sizes());
  const int64_t batch = in.latents.size(0), tokens = grid_of(c, in.latents).tokens();
  check_condition({in.text, in.pooled, in.t, c.text_embed_dim, c.pooled_projection_dim}, in.latents,
                  "latents");
  const int64_t padded = in.text.size(1);
  check_lengths(in.lengths, batch, 1, padded);
  TORCH_CHECK(in.guidance.defined() == c.guidance_embeds, "guidance should be ",
              c.guidance_embeds ? "given" : "undefined", ": guidance_embeds is ", c.guidance_embeds);
  TORCH_CHECK(!c.guidance_embeds || in.guidance.sizes() == at::IntArrayRef({batch}), "guidance should be [",
              batch, "], not ", in.guidance.sizes());
  TORCH_CHECK(in.rope.cos.defined() && in.rope.cos.dim() == 2 && in.rope.cos.size(0) >= tokens + padded &&
                  in.rope.cos.size(1) == c.head_dim / 2,
              "rope should be rope_table's for ", tokens, " + ", padded, " rows");
}

// Sample i, without its padding.
Inputs sample_of(const Inputs& in, int64_t i, int64_t tokens) {
  const auto row = [&](const at::Tensor& x) { return x.defined() ? x.narrow(0, i, 1) : x; };
  const auto valid = in.lengths[i].item<int64_t>();
  const auto turned = [&](const at::Tensor& table) { return table.narrow(0, 0, tokens + valid); };
  return {row(in.latents),
          row(in.text).narrow(1, 0, valid),
          row(in.lengths),
          row(in.pooled),
          row(in.t),
          row(in.guidance),
          {turned(in.rope.cos), turned(in.rope.sin), {}, {}}};
}

}  // namespace

Transformer::Transformer(const Weights& w, const TransformerConfig& c)
    : config_(c),
      x_embedder_(patch_embedder(w / "x_embedder" / "proj", c)),
      refiner_(w / "context_embedder", c),
      condition_(w / "time_text_embed", c.dim(), c.pooled_projection_dim, c.guidance_embeds),
      stack_(w, stack_of(c)),
      output_(w, c.dim(), c.out_channels * c.patch_volume()) {}

at::Tensor Transformer::embed_condition(const Inputs& in) const {
  at::Tensor guidance = in.guidance;
  if (guidance.defined()) guidance = guidance.to(in.latents.options()).mul(kGuidanceScale);
  return condition_(in.t, guidance, in.pooled);
}

at::Tensor Transformer::predict(const Inputs& in, const Forward& forward) const {
  const Grid grid = grid_of(config_, in.latents);
  const int64_t rows = grid.tokens() + in.text.size(1);
  Stack::Pass pass({{0, grid.tokens(), rows}}, in.rope, forward);
  const at::Tensor x = at::empty({1, rows, config_.dim()}, in.latents.options());
  {
    const Profile::Section section(forward.profile, "rest");
    const at::Tensor temb = embed_condition(in);
    observe(forward, "temb", temb);
    pass.conditioning = at::silu(temb);
    linear_into(x_embedder_, pack(config_, in.latents), pass.rows(x, kVideoRows));
  }
  observe(forward, "x_embedder", pass.rows(x, kVideoRows));
  refiner_(in.text, in.t, pass.rows(x, kTextRows), forward);
  observe(forward, "context_embedder", pass.rows(x, kTextRows));
  stack_(x, pass);
  const Profile::Section section(forward.profile, "rest");
  return unpack(config_, output_(pass.rows(x, kVideoRows), pass.conditioning), grid);
}

at::Tensor Transformer::operator()(const Inputs& inputs, const Forward& forward) const {
  check_inputs(config_, inputs);
  const int64_t tokens = grid_of(config_, inputs.latents).tokens();
  std::vector<at::Tensor> predictions;
  for (int64_t i = 0; i < inputs.latents.size(0); ++i)
    predictions.push_back(predict(sample_of(inputs, i, tokens), forward));
  return predictions.size() == 1 ? predictions.front() : at::cat(predictions);
}

double flops(const TransformerConfig& c, int64_t video_len, int64_t text_len) {
  const double d = double(c.dim());
  const double ends = double(video_len) * d * double((c.in_channels + c.out_channels) * c.patch_volume());
  return 2 *
         (multiply_adds(stack_of(c), video_len + text_len) + refiner_multiply_adds(c, text_len) + 2 * d * d +
          ends + multiply_adds_of_condition(c.dim(), c.pooled_projection_dim, c.guidance_embeds));
}

}  // namespace sagelab::hunyuanvideo
