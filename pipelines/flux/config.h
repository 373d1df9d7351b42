// SPDX-License-Identifier: Apache-2.0
// The transformer config of a FLUX.1 folder: every key honoured or refused by name. Defaults are diffusers'
// class defaults.
#pragma once

#include <array>
#include <cstdint>

#include "pipelines/core/config.h"

namespace sagelab::flux {

struct TransformerConfig {
  int64_t in_channels = 64, out_channels = 64;  // of a token: 2 x 2 patches of latents
  int64_t layers = 19, single_layers = 38;
  int64_t heads = 24, head_dim = 128;
  int64_t joint_attention_dim = 4096, pooled_projection_dim = 768;
  bool guidance_embeds = false;                  // dev: the guidance scale is an input
  std::array<int64_t, 3> rope_dims{16, 56, 56};  // of a head, for the three coordinates: text, row, column

  // Throws sagelab::Error naming the file and the key: unknown, of a wrong type, or of a value we do not run.
  explicit TransformerConfig(Config& config);
  int64_t dim() const { return heads * head_dim; }
  int64_t ff_dim() const { return 4 * dim(); }
  int64_t blocks() const { return layers + single_layers; }
};

}  // namespace sagelab::flux
