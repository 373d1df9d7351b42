// SPDX-License-Identifier: Apache-2.0
#include "pipelines/cogvideox/transformer.h"

#include <ATen/ATen.h>

#include <array>
#include <cmath>

#include "pipelines/core/modulate/modulate.h"

namespace sagelab::cogvideox {
namespace {

constexpr double kQkNormEps = 1e-6;  // not in the config

attention::Norm qk_norm(const Weights& w, int64_t head_dim) {
  return {attention::Norm::Kind::Layer, w.tensor("weight", {head_dim}), w.tensor("bias", {head_dim}),
          kQkNormEps};
}

// [B, T, C, h, w] -> [B, tokens, C * pt * p * p].
at::Tensor patchify(const at::Tensor& latents, int64_t pt, int64_t p) {
  const auto s = latents.sizes();
  return latents.reshape({s[0], s[1] / pt, pt, s[2], s[3] / p, p, s[4] / p, p})
      .permute({0, 1, 4, 6, 3, 2, 5, 7})
      .reshape({s[0], (s[1] / pt) * (s[3] / p) * (s[4] / p), s[2] * pt * p * p});
}

// The way back, to latents of the given sizes (their channel count aside).
at::Tensor unpatchify(const at::Tensor& tokens, at::IntArrayRef s, int64_t pt, int64_t p) {
  const int64_t channels = tokens.size(2) / (pt * p * p);
  return tokens.view({s[0], s[1] / pt, s[3] / p, s[4] / p, channels, pt, p, p})
      .permute({0, 1, 5, 4, 2, 6, 3, 7})
      .reshape({s[0], s[1], channels, s[3], s[4]});
}

// The first half of a feed-forward without gates, activated. The tensor is the largest of a forward, so that
// a pass over it counts.
at::Tensor activated(const Linear& linear, Activation activation, const at::Tensor& x) {
  if (activation != Activation::GeluTanh) return activate(activation, linear(x));
  const at::Tensor y = at::empty({x.size(0), x.size(1), linear.weight.size(0)}, x.options());
  linear_gelu_into(linear, x, y);
  return y;
}

at::Tensor gated(const Linear& linear, Activation activation, const at::Tensor& x) {
  const std::vector<at::Tensor> halves = linear(x).chunk(2, -1);  // values, gates
  return activate(activation, halves[1]).mul_(halves[0]);
}

void check_inputs(const TransformerConfig& c, const at::Tensor& latents, const at::Tensor& text,
                  const at::Tensor& t) {
  TORCH_CHECK(latents.dim() == 5 && latents.size(2) == c.in_channels, "latents should be [B, T, ",
              c.in_channels, ", h, w], not ", latents.sizes());
  TORCH_CHECK(text.dim() == 3 && text.size(0) == latents.size(0) && text.size(2) == c.text_embed_dim,
              "text should be [", latents.size(0), ", L, ", c.text_embed_dim, "], not ", text.sizes());
  TORCH_CHECK(t.dim() == 1 && t.size(0) == latents.size(0), "t should be [", latents.size(0), "], not ",
              t.sizes());
  TORCH_CHECK(text.scalar_type() == latents.scalar_type(), "text is ", text.scalar_type(), ", latents are ",
              latents.scalar_type());
}

void observe(const Forward& forward, const std::string& name, const at::Tensor& value) {
  if (forward.observe) forward.observe(name, value.clone());
}

// The six chunks of one adaptive norm: three for video, then three for text.
struct Chunks {
  std::array<Modulation, 2> modulation;
  std::array<Gate, 2> gate;
};

Chunks chunks_of(const at::Tensor& six, int64_t text_len, int64_t rows) {
  const std::vector<at::Tensor> c = six.chunk(6, 1);
  return {{Modulation{0, text_len, c[3], c[4]}, Modulation{text_len, rows, c[0], c[1]}},
          {Gate{0, text_len, c[5]}, Gate{text_len, rows, c[2]}}};
}

}  // namespace

Transformer::Block Transformer::make_block(const Weights& w, const TransformerConfig& c) {
  static constexpr std::array<std::string_view, 3> kQkv = {"to_q", "to_k", "to_v"};
  const int64_t d = c.dim();
  const std::array<int64_t, 3> outs = {d, d, d};
  Block b;
  b.norm1_linear = (w / "norm1").linear("linear", 6 * d, c.time_embed_dim);
  b.norm1 = LayerNorm(w / "norm1" / "norm", d, c.norm_eps, c.norm_affine);
  const Weights attn = w / "attn1";
  b.norm_q = qk_norm(attn / "norm_q", c.head_dim);
  b.norm_k = qk_norm(attn / "norm_k", c.head_dim);
  b.qkv = attn.stacked(kQkv, outs, d, c.attention_bias);
  b.to_out = attn.linear("to_out.0", d, d);
  b.norm2_linear = (w / "norm2").linear("linear", 6 * d, c.time_embed_dim);
  b.norm2 = LayerNorm(w / "norm2" / "norm", d, c.norm_eps, c.norm_affine);
  b.ff_in = (w / "ff").linear("net.0.proj", c.ff_dim() * (c.gated_ff ? 2 : 1), d);
  b.ff_out = (w / "ff").linear("net.2", d, c.ff_dim());
  return b;
}

Transformer::Transformer(const Weights& w, const TransformerConfig& c) : config_(c) {
  const int64_t d = c.dim(), p = c.patch_size, features = c.temporal_patch() * p * p;
  const Weights patch = w / "patch_embed";
  if (c.patch_size_t) {
    patch_proj_ = patch.linear("proj", d, c.in_channels * features);  // biased whatever patch_bias says
  } else {
    patch_proj_.weight =
        patch.tensor("proj.weight", {d, c.in_channels, p, p}).view({d, c.in_channels * features});
    if (c.patch_bias) patch_proj_.bias = patch.tensor("proj.bias", {d});
  }
  text_proj_ = patch.linear("text_proj", d, c.text_embed_dim);
  if (c.learned_positions) {
    const int64_t frames = (c.sample_frames - 1) / c.temporal_compression_ratio + 1;
    const int64_t tokens = frames * (c.sample_height / p) * (c.sample_width / p);
    pos_embedding_ = patch.tensor("pos_embedding", {1, c.max_text_seq_length + tokens, d});
  }
  time_embedding_ =
      TimestepEmbedding(w / "time_embedding", d, c.time_embed_dim, c.time_embed_dim, c.timestep_activation);
  blocks_.resize(size_t(c.layers));
  stream_ = LayerStream::make(w, c.layers, [&](const Weights& from, int64_t layer) {
    blocks_[size_t(layer)] = make_block(from / "transformer_blocks" / layer, c);
  });
  norm_final_ = LayerNorm(w / "norm_final", d, c.norm_eps, c.norm_affine);
  norm_out_linear_ = (w / "norm_out").linear("linear", 2 * d, c.time_embed_dim);
  norm_out_ = LayerNorm(w / "norm_out" / "norm", d, c.norm_eps, c.norm_affine);
  proj_out_ = w.linear("proj_out", c.out_channels * features, d);
}

at::Tensor Transformer::embed_time(const at::Tensor& latents, const at::Tensor& t) const {
  const at::Tensor wave =
      sinusoid(t.to(latents.device()), config_.dim(), config_.flip_sin_to_cos, config_.freq_shift);
  return time_embedding_(wave.to(latents.scalar_type()));
}

at::Tensor Transformer::embed(const at::Tensor& latents, const at::Tensor& text) const {
  const Extent extent{text.size(1), latents.size(1), latents.size(3), latents.size(4)};
  const at::Tensor patches = patchify(latents, config_.temporal_patch(), config_.patch_size);
  at::Tensor x = at::cat({text_proj_(text), patch_proj_(patches)}, 1);
  if (uses_learned_table(config_, extent)) {
    x.add_(pos_embedding_);
  } else if (!config_.rotary || config_.learned_positions) {
    const Grid grid = grid_of(config_, extent);
    add_sincos_(x.narrow(1, extent.text_len, grid.tokens())
                    .view({x.size(0), grid.frames, grid.height, grid.width, config_.dim()}),
                config_);
  }
  return x;
}

void Transformer::attend(const Block& block, int layer, const at::Tensor& x, const Pass& pass) const {
  const Forward& forward = pass.forward;
  const int64_t batch = x.size(0), rows = x.size(1);
  Chunks chunks;
  at::Tensor y, qkv;
  {
    const Profile::Section section(forward.profile, "norms");
    chunks = chunks_of(block.norm1_linear(pass.conditioning), pass.text_len, rows);
    y = norm_modulate(x, block.norm1, chunks.modulation);
  }
  {
    const Profile::Section section(forward.profile, "linears");
    qkv = block.qkv(y).view({batch, rows, 3, config_.heads, config_.head_dim});
  }
  {
    const Profile::Section section(forward.profile, "attention");
    attention::Segment segment{qkv.select(2, 0),
                               qkv.select(2, 1),
                               qkv.select(2, 2),
                               block.norm_q,
                               block.norm_k,
                               pass.rope,  // y has been read: its memory takes the result
                               y.view({batch, rows, config_.heads, config_.head_dim})};
    attention::JointCall call{{&segment, 1}, 1.0 / std::sqrt(double(config_.head_dim)), forward.site};
    call.site.layer = call.site.call = layer;
    call.site.layers = int(blocks_.size());
    call.site.block = "block";
    forward.attention.run_joint(call, forward.recorder);
  }
  qkv.reset();
  {
    const Profile::Section section(forward.profile, "linears");
    y = block.to_out(y);
  }
  const Profile::Section section(forward.profile, "norms");
  add_gated_(x, y, chunks.gate);
}

void Transformer::feed_forward(const Block& block, const at::Tensor& x, const Pass& pass) const {
  const Forward& forward = pass.forward;
  Chunks chunks;
  at::Tensor y;
  {
    const Profile::Section section(forward.profile, "norms");
    chunks = chunks_of(block.norm2_linear(pass.conditioning), pass.text_len, x.size(1));
    y = norm_modulate(x, block.norm2, chunks.modulation);
  }
  {
    const Profile::Section section(forward.profile, "linears");
    y = (config_.gated_ff ? gated : activated)(block.ff_in, config_.activation, y);
    y = block.ff_out(y);
  }
  const Profile::Section section(forward.profile, "norms");
  add_gated_(x, y, chunks.gate);
}

at::Tensor Transformer::project_out(const at::Tensor& x, const Pass& pass) const {
  const Profile::Section section(pass.forward.profile, "rest");
  const int64_t rows = x.size(1) - pass.text_len;
  const std::vector<at::Tensor> c = norm_out_linear_(pass.conditioning).chunk(2, 1);
  const Modulation all{0, rows, c[0], c[1]};
  return proj_out_(norm_modulate(norm_final_(x.narrow(1, pass.text_len, rows)), norm_out_, {&all, 1}));
}

at::Tensor Transformer::operator()(const at::Tensor& latents, const at::Tensor& text, const at::Tensor& t,
                                   const attention::Rope& rope, const Forward& forward) const {
  check_inputs(config_, latents, text, t);
  check_positions(config_, {text.size(1), latents.size(1), latents.size(3), latents.size(4)});
  TORCH_CHECK(rope.empty() != config_.rotary, "rope should be ", config_.rotary ? "rope_table's" : "empty");
  at::Tensor x;
  Pass pass{{}, text.size(1), rope, forward};
  {
    const Profile::Section section(forward.profile, "rest");
    const at::Tensor temb = embed_time(latents, t);
    observe(forward, "temb", temb);
    pass.conditioning = at::silu(temb);
    x = embed(latents, text);
  }
  observe(forward, "patch_embed", x);
  run_blocks(x, pass);
  const at::Tensor tokens = project_out(x, pass);
  observe(forward, "proj_out", tokens);
  return unpatchify(tokens, latents.sizes(), config_.temporal_patch(), config_.patch_size);
}

void Transformer::run_blocks(const at::Tensor& x, const Pass& pass) const {
  const Forward& forward = pass.forward;
  LayerStream::Pass weights(stream_.get());
  for (size_t i = 0; i < blocks_.size(); ++i) {
    if (forward.stop.stop_requested()) throw Cancelled();
    weights.enter(int64_t(i));
    attend(blocks_[i], int(i), x, pass);
    feed_forward(blocks_[i], x, pass);
    observe(forward, fmt::format("block.{}", i), x);
  }
}

double flops(const TransformerConfig& c, const Extent& extent) {
  const Grid grid = grid_of(c, extent);
  const double d = double(c.dim()), ff = double(c.ff_dim()), time = double(c.time_embed_dim);
  const double features = double(c.temporal_patch() * c.patch_size * c.patch_size);
  const double video = double(grid.tokens()), text = double(extent.text_len);
  const double rows = video + text;
  const double per_row = 4 * d * d + d * ff * (c.gated_ff ? 3 : 2);
  const double block = rows * per_row + 2 * rows * rows * d + 2 * 6 * d * time;
  const double ends = video * d * features * double(c.in_channels + c.out_channels) +
                      text * d * double(c.text_embed_dim) + d * time + time * time + 2 * d * time;
  return 2 * (double(c.layers) * block + ends);
}

}  // namespace sagelab::cogvideox
