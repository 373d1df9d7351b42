// SPDX-License-Identifier: Apache-2.0
#include "pipelines/hunyuanvideo/refiner.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <array>
#include <string_view>

#include "pipelines/core/modulate/modulate.h"

namespace sagelab::hunyuanvideo {
namespace {

constexpr double kNormEps = 1e-6;  // not in the config
enum Chunk { kGate, kGateFf };     // of the gates' linear, in order

}  // namespace

TokenRefiner::TokenRefiner(const Weights& w, const TransformerConfig& c)
    : config_(c),
      condition_(w / "time_text_embed", c.dim(), c.text_embed_dim, false),
      proj_in_(w.linear("proj_in", c.dim(), c.text_embed_dim)) {
  for (int64_t i = 0; i < c.refiner_layers; ++i)
    blocks_.push_back(make_block(w / "token_refiner.refiner_blocks" / i));
}

TokenRefiner::Block TokenRefiner::make_block(const Weights& w) const {
  static constexpr std::array<std::string_view, 3> kQkv = {"to_q", "to_k", "to_v"};
  const int64_t d = config_.dim();
  const Weights attn = w / "attn";
  return {LayerNorm(w / "norm1", d, kNormEps),
          LayerNorm(w / "norm2", d, kNormEps),
          {attn.stacked(kQkv, std::array{d, d, d}, d), {}, {}},
          attn.linear("to_out.0", d, d),
          FeedForward::of(w / "ff", d),
          (w / "norm_out").linear("linear", 2 * d, d)};
}

at::Tensor TokenRefiner::attend(const Block& block, int layer, const at::Tensor& y,
                                const Forward& forward) const {
  attention::Segment segment;
  {
    const Profile::Section section(forward.profile, "linears");
    segment = segment_of(block.projections.qkv(y), block.projections, config_.heads);
  }
  segment.out = y.unflatten(2, {config_.heads, config_.head_dim});  // y has been read
  attention::Site site = forward.site;
  site.layer = site.call = layer;
  site.layers = int(config_.blocks());
  site.block = "refiner";
  attend_jointly({&segment, 1}, site, forward);
  const Profile::Section section(forward.profile, "linears");
  return block.out(y);
}

void TokenRefiner::run_block(int layer, const at::Tensor& x, const at::Tensor& conditioning,
                             const Forward& forward) const {
  const Block& block = blocks_[size_t(layer)];
  std::vector<at::Tensor> chunks;
  const auto add = [&](const at::Tensor& y, Chunk gate) {
    const Gate all{0, x.size(1), chunks[gate]};
    add_gated_(x, y, {&all, 1});
  };
  at::Tensor y;
  {
    const Profile::Section section(forward.profile, "norms");
    chunks = block.gates(conditioning).chunk(2, 1);
    y = block.norm1(x);
  }
  y = attend(block, layer, y, forward);
  {
    const Profile::Section section(forward.profile, "norms");
    add(y, kGate);
    y = block.norm2(x);
  }
  {
    const Profile::Section section(forward.profile, "linears");
    y = block.ff.in(y);
    at::silu_(y);
    y = block.ff.out(y);
  }
  const Profile::Section section(forward.profile, "norms");
  add(y, kGateFf);
}

void TokenRefiner::operator()(const at::Tensor& text, const at::Tensor& t, const at::Tensor& out,
                              const Forward& forward) const {
  at::Tensor conditioning;
  {
    const Profile::Section section(forward.profile, "rest");
    // The mean in fp32: rows of bf16 would not add up.
    const at::Tensor mean = text.to(at::kFloat).sum(1).div_(text.size(1)).to(text.scalar_type());
    const at::Tensor temb = condition_(t, {}, mean);
    observe(forward, "refiner.temb", temb);
    conditioning = at::silu(temb);
    linear_into(proj_in_, text, out);
  }
  observe(forward, "refiner.proj_in", out);
  for (int layer = 0; layer < int(config_.refiner_layers); ++layer) {
    if (forward.stop.stop_requested()) throw Cancelled();
    run_block(layer, out, conditioning, forward);
    observe(forward, fmt::format("refiner.{}", layer), out);
  }
}

double refiner_multiply_adds(const TransformerConfig& c, int64_t text_len) {
  const double d = double(c.dim()), rows = double(text_len);
  const double block = rows * (4 * d * d + 2 * d * double(c.ff_dim())) + 2 * rows * rows * d + 2 * d * d;
  return double(c.refiner_layers) * block + rows * d * double(c.text_embed_dim) +
         multiply_adds_of_condition(c.dim(), c.text_embed_dim, false);
}

}  // namespace sagelab::hunyuanvideo
