// SPDX-License-Identifier: Apache-2.0
// The decoder of diffusers AutoencoderKLCogVideoX: causal 3D convolutions with a cache carried over chunks of
// two latent frames. Chunk and tile boundaries change the result, so they are exactly diffusers'.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <stop_token>

#include "pipelines/cogvideox/config.h"
#include "pipelines/core/weights.h"

namespace sagelab::cogvideox {

class VaeDecoder {
 public:
  VaeDecoder(const Weights& w, const VaeConfig& config);
  VaeDecoder(VaeDecoder&&) noexcept;
  ~VaeDecoder();

  // done, total: chunks (times tiles) decoded so far. Returns false to cancel: decode then throws Cancelled.
  using OnChunk = std::function<bool(int64_t done, int64_t total)>;
  // z [B, C, T, h, w], already divided by scaling_factor -> [B, 3, F, H, W]. tiled: spatial tiles where the
  // latent exceeds one tile, blended as diffusers does.
  at::Tensor decode(const at::Tensor& z, bool tiled, const OnChunk& on_chunk = {}) const;

  const VaeConfig& config() const { return config_; }

 private:
  struct Net;
  VaeConfig config_;
  std::unique_ptr<const Net> net_;
};

// Latents to decode: frames of height x width, in spatial tiles or whole.
struct Decoding {
  int64_t frames = 0, height = 0, width = 0;
  bool tiled = false;
};
// Largest bytes alive at once inside decode (weights left out), batch 1.
int64_t decode_peak_bytes(const VaeConfig& config, const Decoding& decoding, const Target& target);

}  // namespace sagelab::cogvideox
