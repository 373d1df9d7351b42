// SPDX-License-Identifier: Apache-2.0
// The decoder of diffusers AutoencoderKLMochi. For a pipeline:
//   Config file(folder / "vae" / "config.json");
//   VaeDecoder vae(weights, VaeConfig(file));
//   weights.require_all_read(VaeDecoder::unread_prefixes());
//   video = vae.decode(vae.unscale(latents), {.tiled = ..., .on_chunk = ...});
// and decode_peak_bytes beforehand. diffusers decodes in tiles only if it is told to (enable_tiling). Its
// framewise decoding is not here: _enable_framewise_decoding takes the padding from convolutions that then
// pad nothing themselves, and diffusers 0.42 stops at the first resnet. What it is for, memory, decode does
// without another result.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "pipelines/core/tiling.h"
#include "pipelines/core/weights.h"
#include "pipelines/mochi/vae/config.h"

namespace sagelab::mochi {

// Sizes of diffusers' enable_tiling, in pixels.
struct TileSizes {
  int64_t min_height = 256, min_width = 256, stride_height = 192, stride_width = 192;
};
struct TilePlan {
  TileAxis rows, columns;
};
// Throws sagelab::Error where tiles of this model would be too small to advance.
TilePlan tile_plan(const VaeConfig& config, const TileSizes& sizes);
// Whether a latent of h x w is cut at all.
bool needs_tiles(const TilePlan& plan, int64_t h, int64_t w);

// What a video's latents are decoded to.
struct VaeRun {
  bool tiled = false;  // latents larger than one tile are cut in space, and blended
  // The first temporal_compression - 1 frames are left out: (T - 1) * temporal_compression + 1 remain.
  bool drop_last_temporal_frames = true;
  TileSizes tile_sizes = {};
  // done, total: chunks of latent frames (times tiles, times videos) so far. Returns false to cancel: decode
  // then throws Cancelled.
  std::function<bool(int64_t done, int64_t total)> on_chunk = {};
  // Of every chunk of every tile, [1, C, T, H, W]: diffusers' module names in the decoder ("conv_in",
  // "block_in.resnets.J", "up_blocks.I.resnets.J", "up_blocks.I", "block_out.resnets.J").
  std::function<void(const std::string& name, const at::Tensor& value)> observe = {};
};

class VaeDecoder {
 public:
  // w: the component's own names ("decoder.conv_in" ...).
  VaeDecoder(const Weights& w, const VaeConfig& config);
  VaeDecoder(VaeDecoder&&) noexcept;
  ~VaeDecoder();

  // latents * latents_std / scaling_factor + latents_mean in latents' dtype, as MochiPipeline does: what
  // decode takes. [B, latent_channels, T, h, w]
  at::Tensor unscale(const at::Tensor& latents) const;
  // z [B, latent_channels, T, h, w] -> [B, out_channels, F, H, W] in the weights' dtype, mostly within
  // [-1, 1] and not clamped. One video at a time, its time in chunks: no sum of the model spans frames but
  // the causal convolutions', which go on from the chunk before.
  at::Tensor decode(const at::Tensor& z, const VaeRun& run = {}) const;

  const VaeConfig& config() const { return config_; }
  // For Weights::require_all_read: what a folder holds for encoding.
  static std::span<const std::string_view> unread_prefixes();

 private:
  struct Net;
  VaeConfig config_;
  std::unique_ptr<const Net> net_;
};

// Latents to decode.
struct Decoding {
  int64_t frames = 0, height = 0, width = 0;
  bool tiled = false, drop_last_temporal_frames = true;
  TileSizes tile_sizes = {};
};
// Largest bytes alive at once inside decode (weights and z left out), one video.
int64_t decode_peak_bytes(const VaeConfig& config, const Decoding& decoding, const Target& target);

}  // namespace sagelab::mochi
