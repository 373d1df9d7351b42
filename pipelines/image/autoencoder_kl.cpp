// SPDX-License-Identifier: Apache-2.0
#include "pipelines/image/autoencoder_kl.h"

#include <ATen/ATen.h>

#include "pipelines/common/autoencoder/mid_attention.h"
#include "pipelines/run.h"

namespace sagelab {
namespace {

using at::Tensor;

constexpr double kEps = 1e-6;

// y is the caller's own: SiLU, which all released models use, takes no memory.
Tensor activated(Tensor y, Activation activation) {
  return activation == Activation::Silu ? at::silu_(y) : activate(activation, y);
}

struct Resnet {
  GroupNorm norm1, norm2;
  Conv2d conv1, conv2;
  std::optional<Conv2d> conv_shortcut;
  Activation activation;

  Resnet(const Weights& w, int64_t in, int64_t out, const AutoencoderKLConfig& config)
      : norm1(w / "norm1", config.norm_num_groups, in, kEps),
        norm2(w / "norm2", config.norm_num_groups, out, kEps),
        conv1(w / "conv1", out, in, {3, 1, 1}),
        conv2(w / "conv2", out, out, {3, 1, 1}),
        activation(config.activation) {
    if (in != out) conv_shortcut.emplace(w / "conv_shortcut", out, in, Conv2d::Window{});
  }

  Tensor operator()(Tensor x) const {
    // The shortcut first: where it exists x is not needed beyond the norm.
    const Tensor residual = conv_shortcut ? (*conv_shortcut)(x) : x;
    Tensor y = activated(norm1(x), activation);
    x.reset();
    y = conv1(y);
    y = activated(norm2(y), activation);
    y = conv2(y);
    return y.add_(residual);
  }
};

struct Block {
  std::vector<Resnet> resnets;
  std::optional<Conv2d> upsampler;
};

Tensor upsample(const Conv2d& conv, const Tensor& x) {
  return conv(at::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)}));
}

}  // namespace

struct AutoencoderKL::Net {
  std::optional<Conv2d> post_quant_conv;
  Conv2d conv_in;
  std::vector<Resnet> mid;
  std::optional<MidAttention> attention;  // between mid's two
  std::vector<Block> blocks;
  GroupNorm conv_norm_out;
  Conv2d conv_out;

  Net(const Weights& weights, const AutoencoderKLConfig& c) {
    const auto& widths = c.block_out_channels;
    const int64_t count = int64_t(widths.size());
    const Weights w = weights / "decoder";
    if (c.use_post_quant_conv)
      post_quant_conv.emplace(weights / "post_quant_conv", c.latent_channels, c.latent_channels,
                              Conv2d::Window{});
    int64_t channels = widths.back();
    conv_in = Conv2d(w / "conv_in", channels, c.latent_channels, {3, 1, 1});
    for (int64_t j = 0; j < 2; ++j) mid.emplace_back(w / "mid_block" / "resnets" / j, channels, channels, c);
    if (c.mid_block_add_attention)
      attention.emplace(w / "mid_block" / "attentions" / int64_t(0), channels, c.norm_num_groups, kEps);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t out = widths[count - 1 - i];
      const Weights block = w / "up_blocks" / i;
      Block& b = blocks.emplace_back();
      for (int64_t j = 0; j <= c.layers_per_block; ++j)
        b.resnets.emplace_back(block / "resnets" / j, j == 0 ? channels : out, out, c);
      if (i + 1 < count)
        b.upsampler.emplace(block / "upsamplers" / int64_t(0) / "conv", out, out, Conv2d::Window{3, 1, 1});
      channels = out;
    }
    conv_norm_out = GroupNorm(w / "conv_norm_out", c.norm_num_groups, channels, kEps);
    conv_out = Conv2d(w / "conv_out", c.out_channels, channels, {3, 1, 1});
  }

  // One tile [1, C, h, w] -> [1, out_channels, H, W].
  Tensor operator()(Tensor x, const AutoencoderKLRun& run) const {
    const auto seen = [&](const Tensor& value, const auto&... name) {
      if (run.observe) run.observe((std::string() + ... + name), value.clone());
    };
    if (post_quant_conv) seen(x = (*post_quant_conv)(x), "post_quant_conv");
    seen(x = conv_in(x), "conv_in");
    seen(x = mid[0](std::move(x)), "mid.resnet.0");
    if (attention) seen(x = (*attention)(x), "mid.attention");
    seen(x = mid[1](std::move(x)), "mid.resnet.1");
    for (size_t i = 0; i < blocks.size(); ++i) {
      const std::string block = "block." + std::to_string(i);
      for (size_t j = 0; j < blocks[i].resnets.size(); ++j)
        seen(x = blocks[i].resnets[j](std::move(x)), block, ".resnet.", std::to_string(j));
      if (blocks[i].upsampler) seen(x = upsample(*blocks[i].upsampler, x), block, ".upsampler");
    }
    seen(x = conv_norm_out(x), "conv_norm_out");
    seen(x = conv_out(at::silu_(x)), "conv_out");
    return x;
  }
};

AutoencoderKL::AutoencoderKL(const Weights& w, const AutoencoderKLConfig& config)
    : config_(config), net_(std::make_unique<const Net>(w, config)) {}

AutoencoderKL::AutoencoderKL(AutoencoderKL&&) noexcept = default;
AutoencoderKL::~AutoencoderKL() = default;

at::Tensor AutoencoderKL::unscale(const at::Tensor& latents) const {
  const Tensor z = latents / config_.scaling_factor;
  return config_.shift_factor ? z + *config_.shift_factor : z;
}

at::Tensor AutoencoderKL::decode(const at::Tensor& z, const AutoencoderKLRun& run) const {
  TORCH_CHECK(z.dim() == 4 && z.size(1) == config_.latent_channels && z.numel() > 0,
              "the VAE takes latents [B, ", config_.latent_channels, ", h, w], not ", z.sizes());
  const bool tiled = run.tiled && config_.needs_tiles(z.size(2), z.size(3));
  const TileAxis axis = tiled ? config_.tile_axis() : TileAxis{};
  const int64_t tiles = tiled ? axis.count(z.size(2)) * axis.count(z.size(3)) : 1;
  int64_t done = 0;
  const auto decode_tile = [&](const Tensor& tile) {
    Tensor out = (*net_)(tile.to(net_->conv_in.weight.options()).contiguous(), run);
    if (run.on_tile && !run.on_tile(++done, z.size(0) * tiles)) throw Cancelled();
    return out;
  };
  // One picture at a time: statistics are per picture, so the result is the same and the peak that of one.
  const auto decode_one = [&](const Tensor& picture) {
    return tiled ? decode_tiles(picture, axis, axis, decode_tile) : decode_tile(picture);
  };
  if (z.size(0) == 1) return decode_one(z);
  std::vector<Tensor> pictures;
  for (int64_t i = 0; i < z.size(0); ++i) pictures.push_back(decode_one(z.narrow(0, i, 1)));
  return at::cat(pictures);
}

std::span<const std::string_view> AutoencoderKL::unread_prefixes() {
  static constexpr std::string_view kPrefixes[] = {"encoder.", "quant_conv."};
  return kPrefixes;
}

std::vector<std::pair<std::string, std::vector<int64_t>>> AutoencoderKL::requested_names(
    const AutoencoderKLConfig& config) {
  const Weights w(shape_source(), {at::kMeta, at::kFloat});
  const AutoencoderKL vae(w, config);
  return w.requested();
}

}  // namespace sagelab
