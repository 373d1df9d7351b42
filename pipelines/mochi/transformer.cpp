// SPDX-License-Identifier: Apache-2.0
#include "pipelines/mochi/transformer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <span>
#include <string_view>
#include <vector>

#include "pipelines/core/modulate/rms.h"

namespace sagelab::mochi {
namespace {

// Not in the config.
constexpr double kNormEps = 1e-6, kHeadNormEps = 1e-5;

// Chunks of an adaptive norm's linear, in order; the last norm of the text has the first alone.
enum Chunk { kScale, kGate, kScaleFf, kGateFf, kChunks };

struct Names {
  std::string_view norm, norm_q, norm_k, out, ff;
  std::array<std::string_view, 3> qkv;
};
constexpr std::array<Names, 2> kNames = {
    Names{"norm1", "norm_q", "norm_k", "to_out.0", "ff", {"to_q", "to_k", "to_v"}},
    Names{"norm1_context",
          "norm_added_q",
          "norm_added_k",
          "to_add_out",
          "ff_context",
          {"add_q_proj", "add_k_proj", "add_v_proj"}}};

// A convolution whose windows do not overlap is a linear over packed patches.
Linear patch_embedder(const Weights& w, const TransformerConfig& c) {
  Linear linear;
  linear.weight = w.tensor("weight", {c.dim(), c.in_channels, c.patch_size, c.patch_size}).flatten(1);
  linear.bias = w.tensor("bias", {c.dim()});
  return linear;
}

Projections make_projections(const Weights& attn, const TransformerConfig& c, const Names& names,
                             int64_t width, bool keys_only) {
  const int64_t d = c.dim();
  const std::array<int64_t, 3> outs = {d, d, d};
  const auto norm = [&](std::string_view name) {
    return attention::Norm{
        attention::Norm::Kind::Rms, (attn / name).tensor("weight", {c.head_dim}), {}, kHeadNormEps};
  };
  Projections result{{}, norm(names.norm_q), norm(names.norm_k)};
  const size_t first = keys_only ? 1 : 0;
  if (keys_only) attn.linear(names.qkv[0], d, width, false);  // in the file, and without effect
  result.qkv =
      attn.stacked(std::span(names.qkv).subspan(first), std::span(outs).subspan(first), width, false);
  return result;
}

void check_inputs(const TransformerConfig& c, const Inputs& in) {
  TORCH_CHECK(in.latents.dim() == 5 && in.latents.size(1) == c.in_channels, "latents should be [B, ",
              c.in_channels, ", T, h, w], not ", in.latents.sizes());
  const int64_t batch = in.latents.size(0), tokens = grid_of(c, in.latents).tokens();
  TORCH_CHECK(in.text.dim() == 3 && in.text.size(0) == batch && in.text.size(2) == c.text_embed_dim,
              "text should be [", batch, ", L, ", c.text_embed_dim, "], not ", in.text.sizes());
  TORCH_CHECK(in.text.scalar_type() == in.latents.scalar_type(), "text is ", in.text.scalar_type(),
              ", latents are ", in.latents.scalar_type());
  check_lengths(in.lengths, batch, 0, in.text.size(1));
  TORCH_CHECK(in.t.sizes() == at::IntArrayRef({batch}), "t should be [", batch, "], not ", in.t.sizes());
  TORCH_CHECK(in.positions.defined() && in.positions.sizes() == at::IntArrayRef({tokens, 3}) &&
                  in.positions.scalar_type() == at::kFloat,
              "positions should be positions_of's for ", tokens, " tokens");
}

}  // namespace

Transformer::Block Transformer::make_block(const Weights& w, const TransformerConfig& c, int64_t layer) {
  const std::array<int64_t, 2> widths = {c.dim(), c.text_dim};
  const Weights attn = w / "attn1";
  Block block;
  block.last = layer == c.layers - 1;
  for (size_t s : {kVideo, kText}) {
    const Names& names = kNames[s];
    const int64_t width = widths[s];
    const bool keys_only = block.last && s == kText;
    Stream& stream = block.streams[s];
    stream.norm = keys_only ? (w / names.norm).linear("linear_1", width, c.dim())
                            : (w / names.norm).linear("linear", kChunks * width, c.dim());
    stream.projections = make_projections(attn, c, names, width, keys_only);
    if (keys_only) continue;
    stream.out = attn.linear(names.out, width, c.dim());
    const Weights ff = w / names.ff;
    const int64_t inner = c.ff_dim(width);
    stream.ff = {ff.linear("net.0.proj", 2 * inner, width, false), ff.linear("net.2", width, inner, false)};
  }
  return block;
}

Transformer::Transformer(const Weights& w, const TransformerConfig& c)
    : config_(c),
      patch_embed_(patch_embedder(w / "patch_embed" / "proj", c)),
      frequencies_(w.tensor("pos_frequencies", {3, c.heads, c.head_dim / 2}, at::kFloat)),
      condition_(w / "time_embed", c),
      caption_proj_((w / "time_embed").linear("caption_proj", c.text_dim, c.text_embed_dim)),
      blocks_(size_t(c.layers)),
      output_(w, c.dim(), c.out_channels * c.patch_area()) {
  stream_ = LayerStream::make(w, c.layers, [&](const Weights& from, int64_t layer) {
    blocks_[size_t(layer)] = make_block(from / "transformer_blocks" / layer, c, layer);
  });
}

std::array<at::Tensor, 2> Transformer::attend(int layer, const std::array<at::Tensor, 2>& y,
                                              const at::Tensor& rows, const Pass& pass) const {
  const Block& block = blocks_[size_t(layer)];
  const size_t written = pass.written(block);
  const int64_t d = config_.dim();
  at::Tensor qkv = at::empty({1, pass.bounds[2], 3 * d}, rows.options());
  {
    const Profile::Section section(pass.forward.profile, "linears");
    for (size_t s = 0; s < pass.read(); ++s) {
      const at::Tensor to = pass.rows(qkv, s);
      linear_into(block.streams[s].projections.qkv, y[s], s < written ? to : to.narrow(2, d, 2 * d));
    }
  }
  const at::Tensor out = rows.unflatten(2, {config_.heads, config_.head_dim});  // y has been read
  std::array<attention::Segment, 2> segments;
  for (size_t s = 0; s < pass.read(); ++s) {
    segments[s] = segment_of(pass.rows(qkv, s), block.streams[s].projections, config_.heads);
    if (s < written)
      segments[s].out = pass.rows(out, s);
    else
      segments[s].q.reset();
  }
  segments[kVideo].rope = pass.rope;
  attention::Site site = pass.forward.site;
  site.layer = site.call = layer;
  site.layers = int(config_.layers);
  site.block = "joint";
  attend_jointly(std::span(segments).first(pass.read()), site, pass.forward);
  segments = {};
  qkv.reset();
  const Profile::Section section(pass.forward.profile, "linears");
  std::array<at::Tensor, 2> z;
  for (size_t s = 0; s < written; ++s) {
    z[s] = at::empty_like(pass.x[s]);
    linear_into(block.streams[s].out, pass.rows(rows, s), z[s]);
  }
  return z;
}

void Transformer::run_block(int layer, Pass& pass) const {
  const Block& block = blocks_[size_t(layer)];
  Profile* profile = pass.forward.profile;
  std::array<std::vector<at::Tensor>, 2> chunks;
  std::array<at::Tensor, 2> y;
  {
    at::Tensor rows = at::empty({1, pass.bounds[2], config_.dim()}, pass.x[kVideo].options());
    {
      const Profile::Section section(profile, "norms");
      for (size_t s = 0; s < pass.read(); ++s) {
        y[s] = s == kVideo ? pass.rows(rows, s) : at::empty_like(pass.x[s]);
        chunks[s] = block.streams[s].norm(pass.conditioning).split(pass.x[s].size(2), 1);
        rms_modulate_into(pass.x[s], chunks[s][kScale], kNormEps, y[s]);
      }
    }
    y = attend(layer, y, rows, pass);
  }
  for (size_t s = 0; s < pass.written(block); ++s) {
    {
      const Profile::Section section(profile, "norms");
      add_rms_gated_(pass.x[s], y[s], chunks[s][kGate], kNormEps);
      rms_modulate_into(pass.x[s], chunks[s][kScaleFf], kNormEps, y[s]);
    }
    {
      const Profile::Section section(profile, "linears");
      feed_forward_swiglu_(block.streams[s].ff, y[s]);
    }
    const Profile::Section section(profile, "norms");
    add_rms_gated_(pass.x[s], y[s], chunks[s][kGateFf], kNormEps);
  }
}

void Transformer::run_blocks(Pass& pass) const {
  const Forward& forward = pass.forward;
  LayerStream::Pass weights(stream_.get());
  for (int layer = 0; layer < int(config_.layers); ++layer) {
    if (forward.stop.stop_requested()) throw Cancelled();
    weights.enter(layer);
    run_block(layer, pass);
    observe(forward, fmt::format("block.{}", layer), pass.x[kVideo]);
    observe(forward, fmt::format("context.{}", layer), pass.x[kText]);
  }
}

at::Tensor Transformer::predict(const Inputs& in, const Forward& forward) const {
  const Grid grid = grid_of(config_, in.latents);
  Pass pass({{0, grid.tokens(), grid.tokens() + in.text.size(1)}}, forward);
  pass.rope = {{}, {}, in.positions, frequencies_};
  {
    const Profile::Section section(forward.profile, "rest");
    const at::Tensor temb = condition_(in.t, in.text);
    observe(forward, "temb", temb);
    pass.conditioning = at::silu(temb);
    pass.x = {patch_embed_(pack(config_, in.latents)), caption_proj_(in.text)};
  }
  observe(forward, "patch_embed", pass.x[kVideo]);
  observe(forward, "caption_proj", pass.x[kText]);
  run_blocks(pass);
  const Profile::Section section(forward.profile, "rest");
  return unpack(config_, output_(pass.x[kVideo], pass.conditioning), grid);
}

at::Tensor Transformer::operator()(const Inputs& inputs, const Forward& forward) const {
  check_inputs(config_, inputs);
  std::vector<at::Tensor> predictions;
  for (int64_t i = 0; i < inputs.latents.size(0); ++i) {
    const auto row = [&](const at::Tensor& x) { return x.narrow(0, i, 1); };
    const auto valid = inputs.lengths[i].item<int64_t>();
    predictions.push_back(predict({row(inputs.latents), row(inputs.text).narrow(1, 0, valid),
                                   row(inputs.lengths), row(inputs.t), inputs.positions},
                                  forward));
  }
  return predictions.size() == 1 ? predictions.front() : at::cat(predictions);
}

double flops(const TransformerConfig& c, int64_t video_len, int64_t text_len) {
  const double d = double(c.dim()), w = double(c.text_dim), video = double(video_len),
               text = double(text_len);
  const double rows = video + text, layers = double(c.layers);
  const auto ff = [&](int64_t width) { return 3.0 * double(c.ff_dim(width) * width); };
  const double block =
      video * (4 * d * d + ff(c.dim())) + text * (4 * d * w + ff(c.text_dim)) + 2 * rows * rows * d;
  // The last block's text: neither queries nor what follows attention.
  const double unread = text * (2 * d * w + ff(c.text_dim) + 2 * rows * d) + 3 * d * w;
  const double ends = video * d * double((c.in_channels + c.out_channels) * c.patch_area()) +
                      text * w * double(c.text_embed_dim) + 2 * d * d;
  return 2 * (layers * (block + 4 * d * (d + w)) - unread + ends + multiply_adds_of_condition(c, text_len));
}

}  // namespace sagelab::mochi
