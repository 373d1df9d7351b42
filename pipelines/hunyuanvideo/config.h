// SPDX-License-Identifier: Apache-2.0
// The transformer config of a HunyuanVideo folder: every key honoured or refused by name. Defaults are
// diffusers' class defaults.
#pragma once

#include <array>
#include <cstdint>

#include "pipelines/core/config.h"

namespace sagelab::hunyuanvideo {

struct TransformerConfig {
  int64_t in_channels = 16, out_channels = 16;  // of latents
  int64_t patch_size = 2, patch_size_t = 1;     // patches: so many frames of so many rows and columns
  int64_t refiner_layers = 2, layers = 20, single_layers = 40;
  int64_t heads = 24, head_dim = 128;
  int64_t text_embed_dim = 4096, pooled_projection_dim = 768;
  bool guidance_embeds = true;  // the guidance scale is an input
  double rope_theta = 256;
  std::array<int64_t, 3> rope_dims{16, 56, 56};  // of a head, for the three coordinates: frame, row, column

  // Throws sagelab::Error naming the file and the key: unknown, of a wrong type, or of a value we do not run.
  explicit TransformerConfig(Config& config);
  int64_t dim() const { return heads * head_dim; }
  int64_t ff_dim() const { return 4 * dim(); }
  int64_t patch_volume() const { return patch_size_t * patch_size * patch_size; }
  int64_t blocks() const { return refiner_layers + layers + single_layers; }
};

}  // namespace sagelab::hunyuanvideo
