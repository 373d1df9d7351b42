// SPDX-License-Identifier: Apache-2.0
// diffusers AutoencoderKL, decoder only: the picture autoencoder of FLUX.1, SD3.5 and their forerunners.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pipelines/core/config.h"
#include "pipelines/core/layers.h"
#include "pipelines/core/tiling.h"
#include "pipelines/core/weights.h"

namespace sagelab {

// vae/config.json: every key honoured or refused by name. Defaults are diffusers' class defaults.
struct AutoencoderKLConfig {
  int64_t out_channels = 3, latent_channels = 4;
  std::vector<int64_t> block_out_channels = {64};  // finest first
  int64_t layers_per_block = 1, norm_num_groups = 32;
  int64_t sample_size = 32;  // side of a tile in pixels, where decoding is tiled
  double scaling_factor = 0.18215;
  std::optional<double> shift_factor;
  bool use_post_quant_conv = true, mid_block_add_attention = true;
  Activation activation = Activation::Silu;  // of the resnets; the one before conv_out is always SiLU

  // Throws sagelab::Error naming the file and the key: unknown, of a wrong type, or of a value we do not run.
  explicit AutoencoderKLConfig(Config& config);
  int64_t spatial_compression() const { return int64_t(1) << (block_out_channels.size() - 1); }
  // One axis of diffusers' tiles. Throws sagelab::Error where they are too small to advance.
  TileAxis tile_axis() const;
  // Whether a latent of h x w is cut at all, where tiling is on.
  bool needs_tiles(int64_t h, int64_t w) const;
};

// How decode runs and who follows it.
struct AutoencoderKLRun {
  bool tiled = false;  // diffusers' enable_tiling: latents larger than one tile are cut and blended
  // done, total: tiles (or whole pictures) decoded so far. Returns false to cancel: decode throws Cancelled.
  std::function<bool(int64_t done, int64_t total)> on_tile = {};
  // "post_quant_conv", "conv_in", "mid.resnet.J", "mid.attention", "block.I.resnet.J", "block.I.upsampler",
  // "conv_norm_out" (before its activation), "conv_out": of every tile of every picture, [1, C, H, W].
  std::function<void(const std::string& name, const at::Tensor& value)> observe = {};
};

class AutoencoderKL {
 public:
  // w: the component's own names ("decoder.conv_in" ...). Attention is read under to_q, to_k, to_v, to_out.0
  // or, where the folder is an old one, under query, key, value, proj_attn.
  AutoencoderKL(const Weights& w, const AutoencoderKLConfig& config);
  AutoencoderKL(AutoencoderKL&&) noexcept;
  ~AutoencoderKL();

  // What a model made is larger by scaling_factor and off by shift_factor: latents / scaling_factor +
  // shift_factor, in latents' dtype, which is what decode takes.
  at::Tensor unscale(const at::Tensor& latents) const;
  // z [B, latent_channels, h, w] -> [B, out_channels, H, W] in the weights' dtype, mostly within [-1, 1] and
  // not clamped. One picture at a time. Untiled H = h * spatial_compression; tiled, where sample_size is no
  // multiple of that, what diffusers' constants give.
  at::Tensor decode(const at::Tensor& z, const AutoencoderKLRun& run = {}) const;

  const AutoencoderKLConfig& config() const { return config_; }
  // For Weights::require_all_read: what a folder holds for encoding.
  static std::span<const std::string_view> unread_prefixes();
  // (key, shape) of everything that the constructor reads, sorted.
  static std::vector<std::pair<std::string, std::vector<int64_t>>> requested_names(
      const AutoencoderKLConfig& config);

 private:
  struct Net;
  AutoencoderKLConfig config_;
  std::unique_ptr<const Net> net_;
};

// Latents to decode.
struct PictureDecoding {
  int64_t pictures = 1, height = 0, width = 0;
  bool tiled = false;
};
// Largest bytes alive at once inside decode, weights and z left out.
int64_t decode_peak_bytes(const AutoencoderKLConfig& config, const PictureDecoding& decoding,
                          const Target& target);

}  // namespace sagelab
