// SPDX-License-Identifier: Apache-2.0
// The transformer config of a Stable Diffusion 3 or 3.5 folder: every key honoured or refused by name.
// Defaults are diffusers' class defaults.
#pragma once

#include <cstdint>
#include <vector>

#include "pipelines/core/config.h"

namespace sagelab::sd3 {

struct TransformerConfig {
  int64_t sample_size = 128;                    // of latents: what a picture is where no size is asked for
  int64_t patch_size = 2;                       // in latents
  int64_t in_channels = 16, out_channels = 16;  // of latents
  int64_t layers = 18;
  int64_t heads = 18, head_dim = 64;
  int64_t joint_attention_dim = 4096, pooled_projection_dim = 2048;
  int64_t pos_embed_max_size = 96;             // in patches, either way
  bool qk_norm = false;                        // RMS norms of queries and keys: 3.5
  std::vector<int64_t> dual_attention_layers;  // have a second attention over the image alone: 3.5 medium

  // Throws sagelab::Error naming the file and the key: unknown, of a wrong type, or of a value we do not run.
  explicit TransformerConfig(Config& config);
  int64_t dim() const { return heads * head_dim; }
  int64_t ff_dim() const { return 4 * dim(); }
  bool dual(int64_t layer) const;
};

}  // namespace sagelab::sd3
