// SPDX-License-Identifier: Apache-2.0
#include "pipelines/mochi/vae/net.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <utility>

namespace sagelab::mochi {

using at::Tensor;

namespace {

std::vector<Resnet> resnets_of(const Weights& w, int64_t count, int64_t channels, size_t& slots) {
  std::vector<Resnet> out;
  for (int64_t j = 0; j < count; ++j) out.emplace_back(w / "resnets" / j, channels, slots);
  return out;
}

Tensor run(const std::vector<Resnet>& resnets, Tensor x, const Pass& pass, const std::string& name) {
  for (size_t j = 0; j < resnets.size(); ++j) {
    x = resnets[j](std::move(x), pass);
    pass.observe(fmt::format("{}.resnets.{}", name, j), x);
  }
  return x;
}

// silu(norm(x)) frame by frame, with room for a convolution's margins: statistics are of one frame.
Tensor normed(const GroupNorm& norm, const Tensor& x) {
  Tensor padded = with_margins(x.sizes(), x.options());
  const Tensor inner = inside(padded).select(0, 0);
  for (int64_t t = 0; t < x.size(2); ++t) {
    Tensor to = inner.select(1, t);
    at::silu_out(to, norm(x.select(2, t)).squeeze(0));
  }
  return padded;
}

// A linear over the channels of one frame: x [C, H, W] -> [out, H * W].
Tensor linear_over_channels(const Tensor& weight, const Tensor& bias, const Tensor& x) {
  return at::addmm(bias.unsqueeze(1), weight, x.flatten(1));
}

}  // namespace

CachedConv::CachedConv(const Weights& w, int64_t channels, size_t& slots)
    : conv(w, channels, channels), slot(slots++) {}

Tensor CachedConv::operator()(Tensor padded, const Pass& pass) const {
  Tensor& cache = pass.caches->at(slot);
  replicate_margins(padded);
  if (cache.defined()) padded.narrow(2, 0, kMarginFrames).copy_(cache);
  cache.reset();
  if (!pass.last) {
    cache =
        padded.narrow(2, padded.size(2) - kMarginFrames, kMarginFrames).clone(at::MemoryFormat::Contiguous);
  }
  return conv(padded);
}

Resnet::Resnet(const Weights& w, int64_t channels, size_t& slots)
    : norm1(w / "norm1" / "norm_layer", kNormGroups, channels, kNormEps),
      norm2(w / "norm2" / "norm_layer", kNormGroups, channels, kNormEps),
      conv1(w / "conv1", channels, slots),
      conv2(w / "conv2", channels, slots) {}

Tensor Resnet::operator()(Tensor x, const Pass& pass) const {
  Tensor y = conv1(normed(norm1, x), pass);
  Tensor padded = normed(norm2, y);
  y.reset();
  return conv2(std::move(padded), pass).add_(x);
}

Tensor Unpatchify::operator()(const Tensor& x) const {
  const int64_t frames = x.size(2), h = x.size(3), w = x.size(4);
  const int64_t channels = weight.size(0) / (st * side * side);
  Tensor out = at::empty({1, channels, frames * st, h * side, w * side}, x.options());
  for (int64_t t = 0; t < frames; ++t) {
    const Tensor pixels = linear_over_channels(weight, bias, x.select(2, t).squeeze(0))
                              .view({channels, st, side, side, h, w})
                              .permute({0, 1, 4, 2, 5, 3});
    out.select(0, 0).narrow(1, t * st, st).view({channels, st, h, side, w, side}).copy_(pixels);
  }
  return out;
}

VaeDecoder::Net::Net(const Weights& w, const VaeConfig& c)
    : activation(c.activation), conv_in(w / "conv_in", c.block_out_channels.back(), c.latent_channels) {
  const int64_t blocks = int64_t(c.block_out_channels.size());
  const int64_t coarsest = c.block_out_channels.back(), finest = c.block_out_channels.front();
  block_in = resnets_of(w / "block_in", c.layers_per_block.back(), coarsest, slots);
  for (int64_t i = 0; i + 1 < blocks; ++i) {
    const int64_t from = blocks - 1 - i, in = c.block_out_channels[from];
    const int64_t st = c.temporal_expansions[from - 1], side = c.spatial_expansions[from - 1];
    const int64_t out = c.block_out_channels[from - 1] * st * side * side;
    const Weights block = w / "up_blocks" / i, proj = block / "proj";
    up_blocks.push_back({resnets_of(block, c.layers_per_block[from], in, slots),
                         {proj.tensor("weight", {out, in}), proj.tensor("bias", {out}), st, side}});
  }
  block_out = resnets_of(w / "block_out", c.layers_per_block.front(), finest, slots);
  proj_out_weight = (w / "proj_out").tensor("weight", {c.out_channels, finest});
  proj_out_bias = (w / "proj_out").tensor("bias", {c.out_channels});
}

Tensor VaeDecoder::Net::operator()(const Tensor& z, const Pass& pass) const {
  Tensor x = conv_in(z);
  pass.observe("conv_in", x);
  x = run(block_in, std::move(x), pass, "block_in");
  for (size_t i = 0; i < up_blocks.size(); ++i) {
    const std::string name = fmt::format("up_blocks.{}", i);
    x = run(up_blocks[i].resnets, std::move(x), pass, name);
    x = up_blocks[i].proj(x);
    pass.observe(name, x);
  }
  return project(run(block_out, std::move(x), pass, "block_out"), pass);
}

Tensor VaeDecoder::Net::project(const Tensor& x, const Pass& pass) const {
  const int64_t frames = x.size(2) - pass.skipped;
  Tensor out = at::empty({1, proj_out_weight.size(0), frames, x.size(3), x.size(4)}, x.options());
  for (int64_t t = 0; t < frames; ++t) {
    const Tensor frame = activate(activation, x.select(0, 0).select(1, pass.skipped + t));
    Tensor to = out.select(0, 0).select(1, t);
    to.copy_(linear_over_channels(proj_out_weight, proj_out_bias, frame).view_as(to));
  }
  return out;
}

}  // namespace sagelab::mochi
