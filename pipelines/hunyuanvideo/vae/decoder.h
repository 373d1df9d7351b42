// SPDX-License-Identifier: Apache-2.0
// The decoder of diffusers AutoencoderKLHunyuanVideo. Norms see a whole tile, so how time and space are cut
// is part of the result: it is exactly diffusers'.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "pipelines/core/tiling.h"
#include "pipelines/core/weights.h"
#include "pipelines/hunyuanvideo/vae/config.h"

namespace sagelab::hunyuanvideo {

// Sizes of diffusers' enable_tiling, in frames and pixels.
struct TileSizes {
  int64_t frames = 16, height = 256, width = 256;
  int64_t stride_frames = 12, stride_height = 192, stride_width = 192;
};
// tile counts the latents without the one in front that a tile of time has beside them.
struct TilePlan {
  TileAxis frames, rows, columns;
  bool cuts_time(int64_t latent_frames) const { return latent_frames > frames.tile; }
  bool cuts_space(int64_t h, int64_t w) const { return h > rows.tile || w > columns.tile; }
  // Tiles of time that give any frames: a last one of a single latent gives none.
  int64_t count_time(int64_t latent_frames) const;
  // Latents of tile i of them.
  int64_t length_time(int64_t latent_frames, int64_t i) const;
};
// Throws sagelab::Error where tiles of this model would be too small to advance.
TilePlan tile_plan(const VaeConfig& config, const TileSizes& sizes);

struct VaeRun {
  bool tiled = false;     // enable_tiling: latents larger than one tile are cut in space, and blended
  bool framewise = true;  // use_framewise_decoding, which is on from the start: cut in time, and blended
  TileSizes sizes = {};
  // done, total: tiles decoded so far. Returns false to cancel: decode throws Cancelled.
  std::function<bool(int64_t done, int64_t total)> on_tile = {};
  // "post_quant_conv", "conv_in", "mid.resnet.J", "mid.attention", "block.I.resnet.J", "block.I.upsampler",
  // "conv_norm_out" (before its activation), "conv_out": of every tile, [1, C, T, H, W].
  std::function<void(const std::string& name, const at::Tensor& value)> observe = {};
};

class VaeDecoder {
 public:
  VaeDecoder(const Weights& w, const VaeConfig& config);
  VaeDecoder(VaeDecoder&&) noexcept;
  ~VaeDecoder();

  // latents / scaling_factor, in latents' dtype, which is what decode takes.
  at::Tensor unscale(const at::Tensor& latents) const { return latents / config_.scaling_factor; }
  // z [B, latent_channels, T, h, w] -> [B, out_channels, frames_of(T), H, W] in the weights' dtype, mostly
  // within [-1, 1] and not clamped. One video at a time.
  at::Tensor decode(const at::Tensor& z, const VaeRun& run = {}) const;

  const VaeConfig& config() const { return config_; }
  // For Weights::require_all_read: what a folder holds for encoding.
  static std::span<const std::string_view> unread_prefixes();

 private:
  struct Net;
  VaeConfig config_;
  std::unique_ptr<const Net> net_;
};

// Latents to decode, one video.
struct Decoding {
  int64_t frames = 0, height = 0, width = 0;
  bool tiled = false;
};
// Largest bytes alive at once inside decode, weights and z left out, with diffusers' tile sizes.
int64_t decode_peak_bytes(const VaeConfig& config, const Decoding& decoding, const Target& target);

}  // namespace sagelab::hunyuanvideo
