// SPDX-License-Identifier: Apache-2.0
#include "pipelines/cogvideox/vae/decoder.h"

#include <ATen/ATen.h>

#include <array>
#include <optional>
#include <utility>

#include "pipelines/cogvideox/vae/chunks.h"
#include "pipelines/pipeline.h"
#include "pipelines/video/conv.h"

namespace sagelab::cogvideox {
namespace {

using at::Tensor;

// One chunk on its way through the decoder. Tensors are [1, C, T, H, W].
struct Pass {
  Tensor z;                     // its latents: every norm looks at them
  std::vector<Tensor>* caches;  // by convolution: its last two input frames
  bool last;                    // no chunk follows: nothing is kept
};

struct CausalConv {
  Tensor weight, bias;
  size_t slot;

  CausalConv(const Weights& w, int64_t out, int64_t in, size_t& slots)
      : weight((w / "conv").tensor("weight", {out, in, 3, 3, 3})),
        bias((w / "conv").tensor("bias", {out})),
        slot(slots++) {}

  // padded: see Note [Padded once]; its first two frames are still to be filled.
  Tensor operator()(Tensor padded, const Pass& pass) const {
    Tensor& cache = pass.caches->at(slot);
    padded.narrow(2, 0, kLead).copy_(cache.defined() ? cache : padded.narrow(2, kLead, 1));
    cache.reset();
    if (!pass.last) {
      cache = padded.narrow(2, padded.size(2) - kLead, kLead).clone(at::MemoryFormat::Contiguous);
    }
    return conv3d(padded, weight, bias, 1);
  }
};

// [1, C, t, h, w] -> [1, C, frames, h, w], nearest. Of an odd count the first frame keeps to the first latent
// frame; the others are doubled once for every upsampler before, so the ratio is whole.
Tensor stretch_time(const Tensor& x, int64_t frames) {
  const int64_t from = x.size(2);
  if (from == frames) return x;
  const int64_t lead = frames % 2, rest = from - lead, times = (frames - lead) / rest;
  const Tensor stretched = x.narrow(2, lead, rest)
                               .unsqueeze(3)
                               .expand({1, x.size(1), rest, times, x.size(3), x.size(4)})
                               .reshape({1, x.size(1), rest * times, x.size(3), x.size(4)});
  return lead ? at::cat({x.narrow(2, 0, 1), stretched}, 2) : stretched;
}

struct SpatialNorm {
  GroupNorm norm;
  PointConv conv_y, conv_b;

  // eps is not the config's norm_eps: diffusers' spatial norm has its own.
  SpatialNorm(const Weights& w, int64_t channels, const VaeConfig& config)
      : norm(w / "norm_layer", config.norm_num_groups, channels, 1e-6),
        conv_y(w / "conv_y" / "conv", channels, config.latent_channels),
        conv_b(w / "conv_b" / "conv", channels, config.latent_channels) {}

  // activation(norm(x) * y + b), behind two frames for the causal convolution that comes next. y and b are
  // 1x1x1 convolutions of the latents resized to x. Nearest resizing commutes with them, so they are computed
  // at latent size and broadcast.
  Tensor operator()(Tensor x, const Pass& pass, Activation activation) const {
    const int64_t c = x.size(1), t = x.size(2), h = x.size(3), w = x.size(4);
    const int64_t zh = pass.z.size(3), zw = pass.z.size(4);
    const std::array<int64_t, 7> fine{1, c, t, zh, h / zh, zw, w / zw}, coarse{1, c, t, zh, 1, zw, 1};
    const Tensor y = stretch_time(conv_y(pass.z), t).view(coarse);
    const Tensor b = stretch_time(conv_b(pass.z), t).view(coarse);
    const Tensor normed = norm(x).view(fine);
    x.reset();
    Tensor padded = at::empty({1, c, t + kLead, h, w}, normed.options());
    Tensor inner = padded.narrow(2, kLead, t);
    Tensor target = inner.view(fine);
    at::addcmul_out(target, b, normed, y);
    if (activation == Activation::Silu) {
      at::silu_(inner);
    } else {
      inner.copy_(activate(activation, inner));
    }
    return padded;
  }
};

struct Resnet {
  SpatialNorm norm1, norm2;
  CausalConv conv1, conv2;
  std::optional<PointConv> conv_shortcut;
  Activation activation;

  Resnet(const Weights& w, int64_t in, int64_t out, const VaeConfig& config, size_t& slots)
      : norm1(w / "norm1", in, config),
        norm2(w / "norm2", out, config),
        conv1(w / "conv1", out, in, slots),
        conv2(w / "conv2", out, out, slots),
        activation(config.activation) {
    if (in != out) conv_shortcut.emplace(w / "conv_shortcut", out, in);
  }

  Tensor operator()(Tensor x, const Pass& pass) const {
    // The shortcut first: where it exists x is not needed beyond the norm.
    const Tensor residual = conv_shortcut ? (*conv_shortcut)(x) : x;
    Tensor y = conv1(norm1(std::move(x), pass, activation), pass);
    y = conv2(norm2(std::move(y), pass, activation), pass);
    return y.add_(residual);
  }
};

// Nearest x2 in space, and in time where doubles_time, then a convolution per frame. Frames that time
// doubling would make equal are computed once and written twice, one at a time: the enlarged input never
// exists as a whole.
struct Upsampler {
  Conv2d conv;
  bool doubles_time;

  Tensor operator()(Tensor x) const {
    const int64_t frames = x.size(2), h = 2 * x.size(3), w = 2 * x.size(4);
    const int64_t out_frames = doubles_time ? doubled_frames(frames) : frames;
    Tensor out = at::empty({1, conv.weight.size(0), out_frames, h, w}, x.options());
    for (int64_t t = 0, to = 0; t < frames; ++t) {
      const int64_t copies = doubles_time && !(frames % 2 && t == 0) ? 2 : 1;
      const Tensor frame = conv(at::upsample_nearest2d(x.select(2, t), {h, w}));
      out.narrow(2, to, copies).copy_(frame.unsqueeze(2));
      to += copies;
    }
    return out;
  }
};

}  // namespace

struct VaeDecoder::Net {
  size_t slots = 0;  // first: constructors below count their convolutions in it
  CausalConv conv_in;
  std::vector<Resnet> mid;
  struct Block {
    std::vector<Resnet> resnets;
    std::optional<Upsampler> upsampler;
  };
  std::vector<Block> blocks;
  SpatialNorm norm_out;
  CausalConv conv_out;

  Net(const Weights& w, const VaeConfig& c)
      : conv_in(w / "conv_in", c.block_out_channels.back(), c.latent_channels, slots),
        norm_out(w / "norm_out", c.block_out_channels.front(), c),
        conv_out(w / "conv_out", c.out_channels, c.block_out_channels.front(), slots) {
    int64_t channels = c.block_out_channels.back();
    for (int64_t j = 0; j < 2; ++j) {
      mid.emplace_back(w / "mid_block" / "resnets" / j, channels, channels, c, slots);
    }
    const int64_t count = int64_t(c.block_out_channels.size());
    for (int64_t i = 0; i < count; ++i) {
      const int64_t out = c.block_out_channels[count - 1 - i];
      const Weights block = w / "up_blocks" / i;
      Block& b = blocks.emplace_back();
      for (int64_t j = 0; j <= c.layers_per_block; ++j) {
        b.resnets.emplace_back(block / "resnets" / j, j == 0 ? channels : out, out, c, slots);
      }
      if (i + 1 < count) {
        const Weights up = block / "upsamplers" / int64_t(0) / "conv";
        b.upsampler = Upsampler{Conv2d(up, out, out, {3, 1, 1}), i < temporal_levels(c)};
      }
      channels = out;
    }
  }

  // One chunk of latents [1, C, t, h, w] -> [1, 3, frames, H, W].
  Tensor operator()(const Pass& pass) const {
    const Tensor& z = pass.z;
    Tensor x = at::empty({1, z.size(1), z.size(2) + kLead, z.size(3), z.size(4)}, z.options());
    x.narrow(2, kLead, z.size(2)).copy_(z);
    x = conv_in(std::move(x), pass);
    for (const Resnet& resnet : mid) x = resnet(std::move(x), pass);
    for (const Block& block : blocks) {
      for (const Resnet& resnet : block.resnets) x = resnet(std::move(x), pass);
      if (block.upsampler) x = (*block.upsampler)(std::move(x));
    }
    return conv_out(norm_out(std::move(x), pass, Activation::Silu), pass);
  }
};

VaeDecoder::VaeDecoder(const Weights& w, const VaeConfig& config)
    : config_(config), net_(std::make_unique<const Net>(w / "decoder", config)) {}

VaeDecoder::VaeDecoder(VaeDecoder&&) noexcept = default;
VaeDecoder::~VaeDecoder() = default;

at::Tensor VaeDecoder::decode(const at::Tensor& z, bool tiled, const OnChunk& on_chunk) const {
  TORCH_CHECK(z.dim() == 5 && z.size(1) == config_.latent_channels && z.numel() > 0,
              "the VAE takes latents [B, ", config_.latent_channels, ", T, h, w], not ", z.sizes());
  const std::vector<ChunkRange> chunks = chunk_ranges(z.size(2));
  TilePlan plan;
  if (tiled) plan = tile_plan(config_);
  tiled = tiled && needs_tiles(plan, z.size(3), z.size(4));
  const int64_t tiles = tiled ? plan.rows.count(z.size(3)) * plan.columns.count(z.size(4)) : 1;
  const int64_t total = z.size(0) * tiles * int64_t(chunks.size());
  int64_t done = 0;

  // All chunks of one tile [1, C, T, h, w].
  const auto decode_tile = [&](const Tensor& tile) {
    std::vector<Tensor> caches(net_->slots);
    Tensor out;
    int64_t to = 0;
    for (const ChunkRange& chunk : chunks) {
      const bool last = chunk.end == tile.size(2);
      const Tensor part = tile.narrow(2, chunk.begin, chunk.end - chunk.begin)
                              .to(net_->conv_in.weight.options())
                              .contiguous();
      Tensor frames = (*net_)({part, &caches, last});
      if (on_chunk && !on_chunk(++done, total)) throw Cancelled();
      if (chunks.size() == 1) return frames;
      if (!out.defined()) {
        out = at::empty({1, frames.size(1), output_frames(config_, chunks), frames.size(3), frames.size(4)},
                        frames.options());
      }
      out.narrow(2, to, frames.size(2)).copy_(frames);
      to += frames.size(2);
    }
    return out;
  };
  // One video at a time: statistics are per video, so the result is the same and the peak that of one.
  const auto decode_one = [&](const Tensor& video) {
    return tiled ? decode_tiles(video, plan.rows, plan.columns, decode_tile) : decode_tile(video);
  };
  if (z.size(0) == 1) return decode_one(z);
  std::vector<Tensor> videos;
  for (int64_t i = 0; i < z.size(0); ++i) videos.push_back(decode_one(z.narrow(0, i, 1)));
  return at::cat(videos);
}

}  // namespace sagelab::cogvideox
