// SPDX-License-Identifier: Apache-2.0
#include "pipelines/common/joint/stack.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "pipelines/core/modulate/modulate.h"

namespace sagelab {
namespace {

constexpr double kLargestHalf = 65504;

// Chunks of an adaptive norm's linear, in order; single blocks have the first three.
enum Chunk { kShift, kScale, kGate, kShiftFf, kScaleFf, kGateFf };
using Chunks = std::array<std::vector<at::Tensor>, 2>;  // six of either stream

constexpr std::array<size_t, 2> kStreams = {0, 1};

struct StreamNames {
  std::string_view norm, norm_q, norm_k, out, ff;
  std::array<std::string_view, 3> qkv;
};
constexpr StreamNames kImageNames = {"norm1", "norm_q", "norm_k", "to_out.0", "ff", {"to_q", "to_k", "to_v"}};
constexpr StreamNames kTextNames = {"norm1_context", "norm_added_q",
                                    "norm_added_k",  "to_add_out",
                                    "ff_context",    {"add_q_proj", "add_k_proj", "add_v_proj"}};

// What fp16 cannot hold, as diffusers has it.
void clip_half_(const at::Tensor& x) {
  if (x.scalar_type() == at::kHalf) x.clamp_(-kLargestHalf, kLargestHalf);
}

Projections make_projections(const Weights& attn, const StreamNames& names, const StackConfig& c) {
  const int64_t d = c.dim();
  const std::array<int64_t, 3> outs = {d, d, d};
  return {attn.stacked(names.qkv, outs, d), head_norm(attn, names.norm_q, c.head_dim),
          head_norm(attn, names.norm_k, c.head_dim)};
}

}  // namespace

Stack::Double Stack::make_double(const Weights& w, const StackConfig& c) {
  const int64_t d = c.dim();
  const Weights attn = w / "attn";
  Double block;
  for (size_t s : kStreams) {
    const StreamNames& names = c.image_first == (s == 0) ? kImageNames : kTextNames;
    Stream& stream = block.streams[s];
    stream.norm = (w / names.norm).linear("linear", 6 * d, d);
    stream.projections = make_projections(attn, names, c);
    stream.out = attn.linear(names.out, d, d);
    stream.ff = FeedForward::of(w / names.ff, d);
  }
  return block;
}

Stack::Single Stack::make_single(const Weights& w, const StackConfig& c) {
  const int64_t d = c.dim();
  Single block;
  block.norm = (w / "norm").linear("linear", 3 * d, d);
  block.projections = make_projections(w / "attn", kImageNames, c);
  block.mlp = w.linear("proj_mlp", c.ff_dim(), d);
  block.out = w.linear("proj_out", d, d + c.ff_dim());
  return block;
}

Stack::Stack(const Weights& w, const StackConfig& c)
    : config_(c), doubles_(size_t(c.layers)), singles_(size_t(c.single_layers)) {
  stream_ = LayerStream::make(w, c.blocks(), [&](const Weights& from, int64_t layer) {
    const int64_t single = layer - c.layers;
    if (single < 0)
      doubles_[size_t(layer)] = make_double(from / "transformer_blocks" / layer, c);
    else
      singles_[size_t(single)] = make_single(from / "single_transformer_blocks" / single, c);
  });
}

void Stack::call(std::span<const attention::Segment> segments, int layer, std::string_view block,
                 const Pass& pass) const {
  attention::Site site = pass.forward.site;
  site.layer = site.call = int(config_.layers_before) + layer;
  site.layers = int(config_.layers_before + config_.blocks());
  site.block = block;
  attend_jointly(segments, site, pass.forward);
}

at::Tensor Stack::attend(const Double& block, int layer, const at::Tensor& y, const Pass& pass) const {
  Profile* profile = pass.forward.profile;
  at::Tensor qkv = at::empty({y.size(0), y.size(1), 3 * config_.dim()}, y.options());
  {
    const Profile::Section section(profile, "linears");
    for (size_t s : kStreams)
      linear_into(block.streams[s].projections.qkv, pass.rows(y, s), pass.rows(qkv, s));
  }
  const at::Tensor out = y.unflatten(2, {config_.heads, config_.head_dim});  // y has been read
  std::array<attention::Segment, 2> segments;
  for (size_t s : kStreams) {
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
  for (size_t s : kStreams) linear_into(block.streams[s].out, pass.rows(y, s), pass.rows(z, s));
  return z;
}

void Stack::run_double(int layer, const at::Tensor& x, const Pass& pass) const {
  const Double& block = doubles_[size_t(layer)];
  Profile* profile = pass.forward.profile;
  Chunks chunks;
  const auto modulated = [&](Chunk shift, Chunk scale) {
    std::array<Modulation, 2> spans;
    for (size_t s : kStreams)
      spans[s] = {pass.bounds[s], pass.bounds[s + 1], chunks[s][shift], chunks[s][scale]};
    return norm_modulate(x, plain_norm(), spans);
  };
  const auto add = [&](const at::Tensor& y, Chunk gate) {
    std::array<Gate, 2> spans;
    for (size_t s : kStreams) spans[s] = {pass.bounds[s], pass.bounds[s + 1], chunks[s][gate]};
    add_gated_(x, y, spans);
  };
  at::Tensor y;
  {
    const Profile::Section section(profile, "norms");
    for (size_t s : kStreams) chunks[s] = block.streams[s].norm(pass.conditioning).chunk(6, 1);
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
    for (size_t s : kStreams) feed_forward_(block.streams[s].ff, pass.rows(y, s));
  }
  const Profile::Section section(profile, "norms");
  add(y, kGateFf);
  if (config_.clips_half) clip_half_(pass.rows(x, config_.image_first ? 1 : 0));  // and never the image's
}

void Stack::run_single(int layer, const at::Tensor& x, const Pass& pass) const {
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
  if (config_.clips_half) clip_half_(x);
}

void Stack::operator()(const at::Tensor& x, const Pass& pass) const {
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

double multiply_adds(const StackConfig& c, int64_t row_count) {
  const double d = double(c.dim()), rows = double(row_count);
  const double block = rows * (4 * d * d + 2 * d * double(c.ff_dim())) + 2 * rows * rows * d;
  return double(c.blocks()) * block + d * d * double(12 * c.layers + 3 * c.single_layers);
}

}  // namespace sagelab
