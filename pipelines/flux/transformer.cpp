// SPDX-License-Identifier: Apache-2.0
#include "pipelines/flux/transformer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

namespace sagelab::flux {
namespace {

constexpr int64_t kTimeWaves = 256;  // none of these is in the config
constexpr double kTimeScale = 1000;
constexpr double kLargestHalf = 65504;

// Chunks of an adaptive norm's linear, in order; single blocks have the first three. The last norm has
// kFinalScale and kFinalShift instead.
enum Chunk { kShift, kScale, kGate, kShiftFf, kScaleFf, kGateFf };
enum FinalChunk { kFinalScale, kFinalShift };

// What fp16 cannot hold, as diffusers has it.
void clip_half_(const at::Tensor& x) {
  if (x.scalar_type() == at::kHalf) x.clamp_(-kLargestHalf, kLargestHalf);
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

Transformer::Double Transformer::make_double(const Weights& w, const TransformerConfig& c) {
  struct Names {
    std::string_view norm, norm_q, norm_k, out, ff;
    std::array<std::string_view, 3> qkv;
  };
  static constexpr std::array<Names, 2> kNames = {
      Names{"norm1_context",
            "norm_added_q",
            "norm_added_k",
            "to_add_out",
            "ff_context",
            {"add_q_proj", "add_k_proj", "add_v_proj"}},
      Names{"norm1", "norm_q", "norm_k", "to_out.0", "ff", {"to_q", "to_k", "to_v"}}};
  const int64_t d = c.dim();
  const std::array<int64_t, 3> outs = {d, d, d};
  const Weights attn = w / "attn";
  Double block;
  for (size_t s : {kText, kImage}) {
    const Names& n = kNames[s];
    Stream& stream = block.streams[s];
    stream.norm = (w / n.norm).linear("linear", 6 * d, d);
    stream.projections = {attn.stacked(n.qkv, outs, d), head_norm(attn, n.norm_q, c.head_dim),
                          head_norm(attn, n.norm_k, c.head_dim)};
    stream.out = attn.linear(n.out, d, d);
    stream.ff = FeedForward::of(w / n.ff, d);
  }
  return block;
}

Transformer::Single Transformer::make_single(const Weights& w, const TransformerConfig& c) {
  static constexpr std::array<std::string_view, 3> kQkv = {"to_q", "to_k", "to_v"};
  const int64_t d = c.dim();
  const std::array<int64_t, 3> outs = {d, d, d};
  const Weights attn = w / "attn";
  Single block;
  block.norm = (w / "norm").linear("linear", 3 * d, d);
  block.projections = {attn.stacked(kQkv, outs, d), head_norm(attn, "norm_q", c.head_dim),
                       head_norm(attn, "norm_k", c.head_dim)};
  block.mlp = w.linear("proj_mlp", c.ff_dim(), d);
  block.out = w.linear("proj_out", d, d + c.ff_dim());
  return block;
}

Transformer::Transformer(const Weights& w, const TransformerConfig& c) : config_(c) {
  const int64_t d = c.dim();
  const Weights condition = w / "time_text_embed";
  const auto embedder = [&](std::string_view name, int64_t in) {
    return TimestepEmbedding(condition / name, in, d, d, Activation::Silu);
  };
  x_embedder_ = w.linear("x_embedder", d, c.in_channels);
  context_embedder_ = w.linear("context_embedder", d, c.joint_attention_dim);
  timestep_embedder_ = embedder("timestep_embedder", kTimeWaves);
  if (c.guidance_embeds) guidance_embedder_ = embedder("guidance_embedder", kTimeWaves);
  text_embedder_ = embedder("text_embedder", c.pooled_projection_dim);
  doubles_.resize(size_t(c.layers));
  singles_.resize(size_t(c.single_layers));
  stream_ = LayerStream::make(w, c.blocks(), [&](const Weights& from, int64_t layer) {
    const int64_t single = layer - c.layers;
    if (single < 0)
      doubles_[size_t(layer)] = make_double(from / "transformer_blocks" / layer, c);
    else
      singles_[size_t(single)] = make_single(from / "single_transformer_blocks" / single, c);
  });
  norm_out_ = (w / "norm_out").linear("linear", 2 * d, d);
  proj_out_ = w.linear("proj_out", c.out_channels, d);
}

at::Tensor Transformer::embed_condition(const Inputs& in) const {
  const auto waves = [&](const at::Tensor& x) {
    const at::Tensor scaled = x.to(in.tokens.options()).mul(kTimeScale);
    return sinusoid(scaled, kTimeWaves, true, 0).to(in.pooled.scalar_type());
  };
  const at::Tensor temb = timestep_embedder_(waves(in.t));
  if (config_.guidance_embeds) temb.add_(guidance_embedder_(waves(in.guidance)));
  return temb.add_(text_embedder_(in.pooled));
}

at::Tensor Transformer::embed(const Inputs& in, const Pass& pass) const {
  const at::Tensor x = at::empty({in.tokens.size(0), pass.bounds[2], config_.dim()}, in.tokens.options());
  linear_into(context_embedder_, in.text, pass.rows(x, kText));
  linear_into(x_embedder_, in.tokens, pass.rows(x, kImage));
  return x;
}

void Transformer::call(std::span<const attention::Segment> segments, int layer, std::string_view block,
                       const Pass& pass) const {
  attention::Site site = pass.forward.site;
  site.layer = site.call = layer;
  site.layers = int(config_.blocks());
  site.block = block;
  attend_jointly(segments, site, pass.forward);
}

at::Tensor Transformer::attend(const Double& block, int layer, const at::Tensor& y, const Pass& pass) const {
  Profile* profile = pass.forward.profile;
  at::Tensor qkv = at::empty({y.size(0), y.size(1), 3 * config_.dim()}, y.options());
  {
    const Profile::Section section(profile, "linears");
    for (size_t s : {kText, kImage})
      linear_into(block.streams[s].projections.qkv, pass.rows(y, s), pass.rows(qkv, s));
  }
  const at::Tensor out = y.unflatten(2, {config_.heads, config_.head_dim});  // y has been read
  std::array<attention::Segment, 2> segments;
  for (size_t s : {kText, kImage}) {
    segments[s] = segment_of(pass.rows(qkv, s), block.streams[s].projections, config_.heads);
    const int64_t begin = pass.bounds[s], rows = pass.bounds[s + 1] - begin;
    segments[s].rope = {pass.rope.cos.narrow(0, begin, rows), pass.rope.sin.narrow(0, begin, rows), {}, {}};
    segments[s].out = pass.rows(out, s);
  }
  call(segments, layer, "double", pass);
  segments = {};
  qkv.reset();
  const Profile::Section section(profile, "linears");
  const at::Tensor z = at::empty_like(y);
  for (size_t s : {kText, kImage}) linear_into(block.streams[s].out, pass.rows(y, s), pass.rows(z, s));
  return z;
}

void Transformer::run_double(int layer, const at::Tensor& x, const Pass& pass) const {
  const Double& block = doubles_[size_t(layer)];
  Profile* profile = pass.forward.profile;
  Chunks chunks;
  const auto modulated = [&](Chunk shift, Chunk scale) {
    std::array<Modulation, 2> spans;
    for (size_t s : {kText, kImage})
      spans[s] = {pass.bounds[s], pass.bounds[s + 1], chunks[s][shift], chunks[s][scale]};
    return norm_modulate(x, plain_norm(), spans);
  };
  const auto add = [&](const at::Tensor& y, Chunk gate) {
    std::array<Gate, 2> spans;
    for (size_t s : {kText, kImage}) spans[s] = {pass.bounds[s], pass.bounds[s + 1], chunks[s][gate]};
    add_gated_(x, y, spans);
  };
  at::Tensor y;
  {
    const Profile::Section section(profile, "norms");
    for (size_t s : {kText, kImage}) chunks[s] = block.streams[s].norm(pass.conditioning).chunk(6, 1);
    y = modulated(kShift, kScale);
  }
  y = attend(block, layer, y, pass);
  {
    const Profile::Section section(profile, "norms");
    add(y, kGate);
    y = modulated(kShiftFf, kScaleFf);
  }
  {
    const Profile::Section section(profile, "linears");
    for (size_t s : {kText, kImage}) feed_forward_(block.streams[s].ff, pass.rows(y, s));
  }
  const Profile::Section section(profile, "norms");
  add(y, kGateFf);
  clip_half_(pass.rows(x, kText));  // and never the image's
}

void Transformer::run_single(int layer, const at::Tensor& x, const Pass& pass) const {
  const Single& block = singles_[size_t(layer - config_.layers)];
  const int64_t batch = x.size(0), rows = x.size(1), d = config_.dim(), f = config_.ff_dim();
  Profile* profile = pass.forward.profile;
  std::vector<at::Tensor> chunks;
  at::Tensor y, qkv;
  {
    const Profile::Section section(profile, "norms");
    chunks = block.norm(pass.conditioning).chunk(3, 1);
    const Modulation all{0, rows, chunks[kShift], chunks[kScale]};
    y = norm_modulate(x, plain_norm(), {&all, 1});
  }
  {
    const Profile::Section section(profile, "linears");
    qkv = block.projections.qkv(y);
  }
  // What the output projection reads: attention first, then the feed-forward, each written where it belongs.
  const at::Tensor both = at::empty({batch, rows, d + f}, x.options());
  attention::Segment segment = segment_of(qkv, block.projections, config_.heads);
  qkv.reset();
  segment.rope = pass.rope;
  segment.out = both.narrow(2, 0, d).unflatten(2, {config_.heads, config_.head_dim});
  call({&segment, 1}, layer, "single", pass);
  segment = {};
  {
    const Profile::Section section(profile, "linears");
    linear_gelu_into(block.mlp, y, both.narrow(2, d, f));
    linear_into(block.out, both, y);  // y has been read
  }
  const Profile::Section section(profile, "norms");
  const Gate all{0, rows, chunks[kGate]};
  add_gated_(x, y, {&all, 1});
  clip_half_(x);
}

at::Tensor Transformer::project_out(const at::Tensor& x, const Pass& pass) const {
  const Profile::Section section(pass.forward.profile, "rest");
  const at::Tensor image = pass.rows(x, kImage);
  const std::vector<at::Tensor> chunks = norm_out_(pass.conditioning).chunk(2, 1);
  const Modulation all{0, image.size(1), chunks[kFinalShift], chunks[kFinalScale]};
  return proj_out_(norm_modulate(image, plain_norm(), {&all, 1}));
}

at::Tensor Transformer::operator()(const Inputs& inputs, const Forward& forward) const {
  check_inputs(config_, inputs);
  const int64_t text_len = inputs.text.size(1);
  Pass pass({{0, text_len, text_len + inputs.tokens.size(1)}}, inputs.rope, forward);
  at::Tensor x;
  {
    const Profile::Section section(forward.profile, "rest");
    const at::Tensor temb = embed_condition(inputs);
    observe(forward, "temb", temb);
    pass.conditioning = at::silu(temb);
    x = embed(inputs, pass);
  }
  observe(forward, "x_embedder", pass.rows(x, kImage));
  observe(forward, "context_embedder", pass.rows(x, kText));
  run_blocks(x, pass);
  return project_out(x, pass);
}

void Transformer::run_blocks(const at::Tensor& x, const Pass& pass) const {
  const Forward& forward = pass.forward;
  LayerStream::Pass weights(stream_.get());
  for (int layer = 0; layer < int(config_.blocks()); ++layer) {
    if (forward.stop.stop_requested()) throw Cancelled();
    weights.enter(layer);
    const bool single = layer >= int(config_.layers);
    if (single)
      run_single(layer, x, pass);
    else
      run_double(layer, x, pass);
    observe(forward,
            single ? fmt::format("single.{}", layer - config_.layers) : fmt::format("block.{}", layer), x);
  }
}

double flops(const TransformerConfig& c, int64_t image_len, int64_t text_len) {
  const double d = double(c.dim()), image = double(image_len), text = double(text_len), rows = image + text;
  const double block = rows * (4 * d * d + 2 * d * double(c.ff_dim())) + 2 * rows * rows * d;
  const double norms = d * d * double(12 * c.layers + 3 * c.single_layers + 2);
  const double embedders = double(c.guidance_embeds ? 2 : 1) * (double(kTimeWaves) * d + d * d) +
                           double(c.pooled_projection_dim) * d + d * d;
  const double ends =
      image * d * double(c.in_channels + c.out_channels) + text * d * double(c.joint_attention_dim);
  return 2 * (double(c.blocks()) * block + norms + embedders + ends);
}

}  // namespace sagelab::flux
