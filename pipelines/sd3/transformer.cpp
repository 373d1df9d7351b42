// SPDX-License-Identifier: Apache-2.0
#include "pipelines/sd3/transformer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

namespace sagelab::sd3 {
namespace {

// Chunks of an adaptive norm's linear, in order; only layers with a second attention have the last three. The
// last norm of the text has kFinalScale and kFinalShift instead.
enum Chunk { kShift, kScale, kGate, kShiftFf, kScaleFf, kGateFf, kShiftDual, kScaleDual, kGateDual };
enum FinalChunk { kFinalScale, kFinalShift };

void check_inputs(const TransformerConfig& c, const Inputs& in) {
  const int64_t p = c.patch_size, most = c.pos_embed_max_size;
  TORCH_CHECK(in.latents.dim() == 4 && in.latents.size(1) == c.in_channels, "latents should be [B, ",
              c.in_channels, ", h, w], not ", in.latents.sizes());
  for (const int64_t side : in.latents.sizes().slice(2))
    TORCH_CHECK(side % p == 0 && side >= p && side / p <= most, "latents' sides should be multiples of ", p,
                " up to ", p * most, ", not ", side);
  check_condition({in.text, in.pooled, in.t, c.joint_attention_dim, c.pooled_projection_dim}, in.latents,
                  "latents");
}

}  // namespace

Projections Transformer::make_projections(const Weights& attn, const TransformerConfig& c, size_t stream,
                                          bool keys_only) {
  struct Names {
    std::array<std::string_view, 3> qkv;
    std::string_view norm_q, norm_k;
  };
  static constexpr std::array<Names, 2> kNames = {
      Names{{"to_q", "to_k", "to_v"}, "norm_q", "norm_k"},
      Names{{"add_q_proj", "add_k_proj", "add_v_proj"}, "norm_added_q", "norm_added_k"}};
  const Names& n = kNames[stream];
  const int64_t d = c.dim();
  const std::array<int64_t, 3> outs = {d, d, d};
  const auto norm = [&](std::string_view name) {
    return c.qk_norm ? head_norm(attn, name, c.head_dim) : attention::Norm{};
  };
  Projections result{{}, norm(n.norm_q), norm(n.norm_k)};
  const size_t first = keys_only ? 1 : 0;
  if (keys_only) attn.linear(n.qkv[0], d, d);  // in the file, and without effect
  result.qkv = attn.stacked(std::span(n.qkv).subspan(first), std::span(outs).subspan(first), d);
  return result;
}

Transformer::Block Transformer::make_block(const Weights& w, const TransformerConfig& c, int64_t layer) {
  struct Names {
    std::string_view norm, out, ff;
  };
  static constexpr std::array<Names, 2> kNames = {Names{"norm1", "to_out.0", "ff"},
                                                  Names{"norm1_context", "to_add_out", "ff_context"}};
  const int64_t d = c.dim();
  const Weights attn = w / "attn";
  Block block;
  block.last = layer == c.layers - 1;
  for (size_t s : {kImage, kText}) {
    const Names& n = kNames[s];
    Stream& stream = block.streams[s];
    const bool keys_only = block.last && s == kText;
    const int64_t chunks = keys_only ? 2 : s == kImage && c.dual(layer) ? 9 : 6;
    stream.norm = (w / n.norm).linear("linear", chunks * d, d);
    stream.projections = make_projections(attn, c, s, keys_only);
    if (keys_only) continue;
    stream.out = attn.linear(n.out, d, d);
    stream.ff = FeedForward::of(w / n.ff, d);
  }
  if (c.dual(layer))
    block.dual =
        Dual{make_projections(w / "attn2", c, kImage, false), (w / "attn2").linear("to_out.0", d, d)};
  return block;
}

Transformer::Transformer(const Weights& w, const TransformerConfig& c)
    : config_(c),
      patches_(w / "pos_embed" / "proj", c.dim(), c.in_channels, {c.patch_size, c.patch_size, 0}),
      pos_embed_(
          (w / "pos_embed").tensor("pos_embed", {1, c.pos_embed_max_size * c.pos_embed_max_size, c.dim()})),
      condition_(w / "time_text_embed", c.dim(), c.pooled_projection_dim, false),
      context_embedder_(w.linear("context_embedder", c.dim(), c.joint_attention_dim)),
      blocks_(size_t(c.layers)),
      output_(w, c.dim(), c.patch_size * c.patch_size * c.out_channels) {
  stream_ = LayerStream::make(w, c.layers, [&](const Weights& from, int64_t layer) {
    blocks_[size_t(layer)] = make_block(from / "transformer_blocks" / layer, c, layer);
  });
}

at::Tensor Transformer::positions(int64_t rows, int64_t columns) const {
  const int64_t most = config_.pos_embed_max_size;
  return pos_embed_.view({1, most, most, config_.dim()})
      .narrow(1, (most - rows) / 2, rows)
      .narrow(2, (most - columns) / 2, columns)
      .reshape({1, rows * columns, config_.dim()});
}

at::Tensor Transformer::embed(const Inputs& in, const Pass& pass) const {
  const at::Tensor x = at::empty({in.latents.size(0), pass.bounds[2], config_.dim()}, in.latents.options());
  const at::Tensor patches = patches_(in.latents);
  at::Tensor image = pass.rows(x, kImage);
  at::add_out(image, patches.flatten(2).transpose(1, 2), positions(patches.size(2), patches.size(3)));
  linear_into(context_embedder_, in.text, pass.rows(x, kText));
  return x;
}

void Transformer::call(std::span<const attention::Segment> segments, int layer, std::string_view block,
                       Pass& pass) const {
  attention::Site site = pass.forward.site;
  site.layer = layer;
  site.layers = int(config_.layers);
  site.call = pass.calls++;
  site.block = block;
  attend_jointly(segments, site, pass.forward);
}

at::Tensor Transformer::attend(const Block& block, int layer, const at::Tensor& y, Pass& pass) const {
  Profile* profile = pass.forward.profile;
  const int64_t d = config_.dim();
  at::Tensor qkv = at::empty({y.size(0), y.size(1), 3 * d}, y.options());
  {
    const Profile::Section section(profile, "linears");
    for (size_t s : {kImage, kText}) {
      const at::Tensor rows = pass.rows(qkv, s);
      linear_into(block.streams[s].projections.qkv, pass.rows(y, s),
                  s < block.written() ? rows : rows.narrow(2, d, 2 * d));
    }
  }
  const at::Tensor out = y.unflatten(2, {config_.heads, config_.head_dim});  // y has been read
  std::array<attention::Segment, 2> segments;
  for (size_t s : {kImage, kText}) {
    segments[s] = segment_of(pass.rows(qkv, s), block.streams[s].projections, config_.heads);
    if (s < block.written())
      segments[s].out = pass.rows(out, s);
    else
      segments[s].q.reset();
  }
  call(segments, layer, "joint", pass);
  segments = {};
  qkv.reset();
  const Profile::Section section(profile, "linears");
  const at::Tensor z = at::empty({y.size(0), pass.bounds[block.written()], d}, y.options());
  for (size_t s = 0; s < block.written(); ++s)
    linear_into(block.streams[s].out, pass.rows(y, s), pass.rows(z, s));
  return z;
}

void Transformer::attend_image_(const Dual& dual, int layer, const at::Tensor& y, Pass& pass) const {
  at::Tensor qkv;
  {
    const Profile::Section section(pass.forward.profile, "linears");
    qkv = dual.projections.qkv(y);
  }
  attention::Segment segment = segment_of(qkv, dual.projections, config_.heads);
  qkv.reset();
  const at::Tensor out = at::empty_like(y);
  segment.out = out.unflatten(2, {config_.heads, config_.head_dim});
  call({&segment, 1}, layer, "dual", pass);
  segment = {};
  const Profile::Section section(pass.forward.profile, "linears");
  linear_into(dual.out, out, y);
}

void Transformer::run_block(int layer, const at::Tensor& x, Pass& pass) const {
  const Block& block = blocks_[size_t(layer)];
  Profile* profile = pass.forward.profile;
  const at::Tensor written = x.narrow(1, 0, pass.bounds[block.written()]);
  const std::span<const int64_t> bounds = pass.bounds;
  std::array<std::vector<at::Tensor>, 2> chunks;
  const auto add = [&](const at::Tensor& y, Chunk gate) {
    const Profile::Section section(profile, "norms");
    std::array<Gate, 2> spans;
    for (size_t s = 0; s < block.written(); ++s) spans[s] = {bounds[s], bounds[s + 1], chunks[s][gate]};
    add_gated_(written, y, std::span(spans).first(block.written()));
  };
  at::Tensor y, dual;
  {
    const Profile::Section section(profile, "norms");
    std::array<Modulation, 2> spans;
    for (size_t s : {kImage, kText}) {
      const Linear& norm = block.streams[s].norm;
      chunks[s] = norm(pass.conditioning).split(config_.dim(), 1);
      const bool full = s < block.written();
      spans[s] = {bounds[s], bounds[s + 1], chunks[s][full ? size_t(kShift) : size_t(kFinalShift)],
                  chunks[s][full ? size_t(kScale) : size_t(kFinalScale)]};
    }
    y = norm_modulate(x, plain_norm(), spans);
    const Modulation second{0, bounds[1], block.dual ? chunks[kImage][kShiftDual] : at::Tensor(),
                            block.dual ? chunks[kImage][kScaleDual] : at::Tensor()};
    if (block.dual) dual = norm_modulate(pass.rows(x, kImage), plain_norm(), {&second, 1});
  }
  y = attend(block, layer, y, pass);
  add(y, kGate);
  if (block.dual) {
    attend_image_(*block.dual, layer, dual, pass);
    const Gate gate{0, bounds[1], chunks[kImage][kGateDual]};
    add_gated_(pass.rows(x, kImage), dual, {&gate, 1});
  }
  {
    const Profile::Section section(profile, "norms");
    std::array<Modulation, 2> spans;
    for (size_t s = 0; s < block.written(); ++s)
      spans[s] = {bounds[s], bounds[s + 1], chunks[s][kShiftFf], chunks[s][kScaleFf]};
    y = norm_modulate(written, plain_norm(), std::span(spans).first(block.written()));
  }
  {
    const Profile::Section section(profile, "linears");
    for (size_t s = 0; s < block.written(); ++s) feed_forward_(block.streams[s].ff, pass.rows(y, s));
  }
  add(y, kGateFf);
}

at::Tensor Transformer::project_out(const at::Tensor& x, const Inputs& in, const Pass& pass) const {
  const Profile::Section section(pass.forward.profile, "rest");
  const at::Tensor tokens = output_(pass.rows(x, kImage), pass.conditioning);
  const int64_t p = config_.patch_size, h = in.latents.size(2), w = in.latents.size(3);
  return tokens.view({tokens.size(0), h / p, w / p, p, p, config_.out_channels})
      .permute({0, 5, 1, 3, 2, 4})
      .reshape({tokens.size(0), config_.out_channels, h, w});
}

at::Tensor Transformer::operator()(const Inputs& inputs, const Forward& forward) const {
  check_inputs(config_, inputs);
  const int64_t p = config_.patch_size;
  const int64_t image_len = (inputs.latents.size(2) / p) * (inputs.latents.size(3) / p);
  Pass pass({{0, image_len, image_len + inputs.text.size(1)}}, forward);
  at::Tensor x;
  {
    const Profile::Section section(forward.profile, "rest");
    const at::Tensor temb = condition_(inputs.t, {}, inputs.pooled);
    observe(forward, "temb", temb);
    pass.conditioning = at::silu(temb);
    x = embed(inputs, pass);
  }
  observe(forward, "pos_embed", pass.rows(x, kImage));
  observe(forward, "context_embedder", pass.rows(x, kText));
  run_blocks(x, inputs, pass);
  return project_out(x, inputs, pass);
}

void Transformer::run_blocks(const at::Tensor& x, const Inputs& inputs, Pass& pass) const {
  const Forward& forward = pass.forward;
  LayerStream::Pass weights(stream_.get());
  for (int layer = 0; layer < int(config_.layers); ++layer) {
    if (forward.stop.stop_requested()) throw Cancelled();
    if (std::ranges::find(inputs.skip, int64_t(layer)) != inputs.skip.end()) continue;
    weights.enter(layer);
    run_block(layer, x, pass);
    observe(forward, fmt::format("block.{}", layer), blocks_[size_t(layer)].last ? pass.rows(x, kImage) : x);
  }
}

double flops(const TransformerConfig& c, int64_t image_len, int64_t text_len) {
  const double d = double(c.dim()), image = double(image_len), text = double(text_len), rows = image + text;
  double sum = multiply_adds_of_condition(c.dim(), c.pooled_projection_dim, false) + 2 * d * d;
  sum += image * d * double(c.patch_size * c.patch_size * (c.in_channels + c.out_channels)) +
         text * d * double(c.joint_attention_dim);
  const double wide = 4 * d * d + 2 * d * double(c.ff_dim());
  for (int64_t i = 0; i < c.layers; ++i) {
    const bool last = i == c.layers - 1, dual = c.dual(i);
    sum += image * wide + text * (last ? 2 * d * d : wide) + 2 * (last ? image : rows) * rows * d;
    if (dual) sum += image * 4 * d * d + 2 * image * image * d;
    sum += d * d * double((dual ? 9 : 6) + (last ? 2 : 6));
  }
  return 2 * sum;
}

}  // namespace sagelab::sd3
