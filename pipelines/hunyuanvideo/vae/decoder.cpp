// SPDX-License-Identifier: Apache-2.0
#include "pipelines/hunyuanvideo/vae/decoder.h"

#include <ATen/ATen.h>

#include <optional>
#include <utility>

#include "pipelines/common/autoencoder/mid_attention.h"
#include "pipelines/run.h"
#include "pipelines/video/causal_conv.h"
#include "pipelines/video/conv.h"

namespace sagelab::hunyuanvideo {
namespace {

using at::Tensor;

constexpr double kEps = 1e-6;

// What a convolution takes: the activation of a norm within its margins. x is freed in between.
Tensor normed(const GroupNorm& norm, Tensor x, Activation activation) {
  const Tensor y = norm(x);
  x.reset();
  return replicated(y, activation);
}

struct Resnet {
  GroupNorm norm1, norm2;
  CausalConv3d conv1, conv2;
  std::optional<PointConv> conv_shortcut;
  Activation activation;

  Resnet(const Weights& w, int64_t in, int64_t out, const VaeConfig& config)
      : norm1(w / "norm1", config.norm_num_groups, in, kEps),
        norm2(w / "norm2", config.norm_num_groups, out, kEps),
        conv1(w / "conv1", out, in),
        conv2(w / "conv2", out, out),
        activation(config.activation) {
    if (in != out) conv_shortcut.emplace(w / "conv_shortcut" / "conv", out, in);
  }

  Tensor operator()(Tensor x) const {
    // The shortcut first: where it exists x is not needed beyond the norm.
    const Tensor residual = conv_shortcut ? (*conv_shortcut)(x) : x;
    Tensor y = conv1(normed(norm1, std::move(x), activation));
    y = conv2(normed(norm2, std::move(y), activation));
    return y.add_(residual);
  }
};

// [1, C, t, h, w] -> its places repeated into `to`, which is [1, C, t * time, h * space, w * space].
void repeat_into(const Tensor& to, const Tensor& x, const VaeConfig::Factors& factors) {
  const int64_t c = x.size(1), t = x.size(2), h = x.size(3), w = x.size(4);
  to.view({1, c, t, factors.time, h, factors.space, w, factors.space})
      .copy_(x.unsqueeze(3).unsqueeze(5).unsqueeze(7));
}

// The first frame is repeated in space alone; then a convolution. The enlarged input exists only within its
// margins.
struct Upsampler {
  CausalConv3d conv;
  VaeConfig::Factors factors;

  Tensor operator()(Tensor x) const {
    const int64_t rest = x.size(2) - 1;
    const Tensor padded = with_margins(
        {1, x.size(1), 1 + rest * factors.time, x.size(3) * factors.space, x.size(4) * factors.space},
        x.options());
    const Tensor to = inside(padded);
    repeat_into(to.narrow(2, 0, 1), x.narrow(2, 0, 1), {1, factors.space});
    if (rest) repeat_into(to.narrow(2, 1, rest * factors.time), x.narrow(2, 1, rest), factors);
    x.reset();
    replicate_margins(padded);
    return conv(padded);
  }
};

struct Block {
  std::vector<Resnet> resnets;
  std::optional<Upsampler> upsampler;
};

}  // namespace

struct VaeDecoder::Net {
  PointConv post_quant_conv;
  CausalConv3d conv_in;
  std::vector<Resnet> mid;
  std::optional<MidAttention> attention;  // between mid's two
  std::vector<Block> blocks;
  GroupNorm conv_norm_out;
  CausalConv3d conv_out;

  Net(const Weights& weights, const VaeConfig& c)
      : post_quant_conv(weights / "post_quant_conv", c.latent_channels, c.latent_channels),
        conv_in(weights / "decoder" / "conv_in", c.block_out_channels.back(), c.latent_channels),
        conv_norm_out(weights / "decoder" / "conv_norm_out", c.norm_num_groups, c.block_out_channels.front(),
                      kEps),
        conv_out(weights / "decoder" / "conv_out", c.out_channels, c.block_out_channels.front()) {
    const Weights w = weights / "decoder", middle = w / "mid_block";
    int64_t channels = c.block_out_channels.back();
    for (int64_t j = 0; j < 2; ++j) mid.emplace_back(middle / "resnets" / j, channels, channels, c);
    if (c.mid_block_add_attention)
      attention.emplace(middle / "attentions" / int64_t(0), channels, c.norm_num_groups, kEps);
    const auto count = int64_t(c.block_out_channels.size());
    for (int64_t i = 0; i < count; ++i) {
      const int64_t out = c.block_out_channels[count - 1 - i];
      const Weights block = w / "up_blocks" / i;
      Block& b = blocks.emplace_back();
      for (int64_t j = 0; j <= c.layers_per_block; ++j)
        b.resnets.emplace_back(block / "resnets" / j, j == 0 ? channels : out, out, c);
      const VaeConfig::Factors factors = c.upsampling(i);
      if (factors.time * factors.space > 1)
        b.upsampler = Upsampler{CausalConv3d(block / "upsamplers" / int64_t(0) / "conv", out, out), factors};
      channels = out;
    }
  }

  // One tile [1, C, t, h, w] -> [1, out_channels, T, H, W].
  Tensor operator()(Tensor x, const VaeRun& run) const {
    const auto seen = [&](const Tensor& value, const auto&... name) {
      if (run.observe) run.observe((std::string() + ... + name), value.clone());
    };
    seen(x = post_quant_conv(x), "post_quant_conv");
    seen(x = conv_in(replicated(x)), "conv_in");
    seen(x = mid[0](std::move(x)), "mid.resnet.0");
    if (attention) seen(x = (*attention)(x), "mid.attention");
    seen(x = mid[1](std::move(x)), "mid.resnet.1");
    for (size_t i = 0; i < blocks.size(); ++i) {
      const std::string block = "block." + std::to_string(i);
      for (size_t j = 0; j < blocks[i].resnets.size(); ++j)
        seen(x = blocks[i].resnets[j](std::move(x)), block, ".resnet.", std::to_string(j));
      if (blocks[i].upsampler) seen(x = (*blocks[i].upsampler)(std::move(x)), block, ".upsampler");
    }
    seen(x = conv_norm_out(x), "conv_norm_out");
    x = replicated(x, Activation::Silu);
    seen(x = conv_out(x), "conv_out");
    return x;
  }
};

VaeDecoder::VaeDecoder(const Weights& w, const VaeConfig& config)
    : config_(config), net_(std::make_unique<const Net>(w, config)) {}

VaeDecoder::VaeDecoder(VaeDecoder&&) noexcept = default;
VaeDecoder::~VaeDecoder() = default;

namespace {

// decode: of latents [1, C, t, h, w]. A tile of time has a latent in front of its own, whose frame is dropped
// but for the first tile.
Tensor decode_in_time(const Tensor& z, const TilePlan& plan,
                      const std::function<Tensor(const Tensor&)>& decode) {
  const TileAxis& axis = plan.frames;
  const int64_t latents = z.size(2), count = plan.count_time(latents);
  Tensor out, before;  // before: the last frames of the tile before
  for (int64_t i = 0, to = 0; i < count; ++i) {
    Tensor tile = decode(z.narrow(2, i * axis.stride, plan.length_time(latents, i)));
    if (i > 0) {
      tile = tile.narrow(2, 1, tile.size(2) - 1);
      blend_tile(before, tile, 2, axis.blend);
    }
    const int64_t frames = tile.size(2), edge = std::min(frames, axis.blend);
    if (i + 1 < count) before = tile.narrow(2, frames - edge, edge).clone();
    if (!out.defined())
      out = at::empty({1, tile.size(1), (latents - 1) * axis.scale + 1, tile.size(3), tile.size(4)},
                      tile.options());
    const int64_t kept = std::min(frames, axis.keep + (i == 0 ? 1 : 0));
    out.narrow(2, to, kept).copy_(tile.narrow(2, 0, kept));
    to += kept;
  }
  return out;
}

}  // namespace

Tensor VaeDecoder::decode(const Tensor& z, const VaeRun& run) const {
  TORCH_CHECK(z.dim() == 5 && z.size(1) == config_.latent_channels && z.numel() > 0,
              "the VAE takes latents [B, ", config_.latent_channels, ", T, h, w], not ", z.sizes());
  const TilePlan plan = tile_plan(config_, run.sizes);
  const bool in_time = run.framewise && plan.cuts_time(z.size(2));
  const bool in_space = run.tiled && plan.cuts_space(z.size(3), z.size(4));
  const int64_t total = z.size(0) * (in_time ? plan.count_time(z.size(2)) : 1) *
                        (in_space ? plan.rows.count(z.size(3)) * plan.columns.count(z.size(4)) : 1);
  int64_t done = 0;
  const auto decode_tile = [&](const Tensor& tile) {
    Tensor out = (*net_)(tile.to(net_->conv_in.weight.options()).contiguous(), run);
    if (run.on_tile && !run.on_tile(++done, total)) throw Cancelled();
    return out;
  };
  const auto decode_part = [&](const Tensor& part) {
    return in_space ? decode_tiles(part, plan.rows, plan.columns, decode_tile) : decode_tile(part);
  };
  // One video at a time: statistics are per video, so the result is the same and the peak that of one.
  std::vector<Tensor> videos;
  for (int64_t i = 0; i < z.size(0); ++i) {
    const Tensor video = z.narrow(0, i, 1);
    videos.push_back(in_time ? decode_in_time(video, plan, decode_part) : decode_part(video));
  }
  return videos.size() == 1 ? videos[0] : at::cat(videos);
}

std::span<const std::string_view> VaeDecoder::unread_prefixes() {
  static constexpr std::string_view kPrefixes[] = {"encoder.", "quant_conv."};
  return kPrefixes;
}

}  // namespace sagelab::hunyuanvideo
