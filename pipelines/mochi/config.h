// SPDX-License-Identifier: Apache-2.0
// The transformer config of a Mochi folder: every key honoured or refused by name. Defaults are diffusers'
// class defaults.
#pragma once

#include <cstdint>

#include "pipelines/core/config.h"

namespace sagelab::mochi {

struct TransformerConfig {
  int64_t in_channels = 12, out_channels = 12;  // of latents
  int64_t patch_size = 2;                       // patches: so many rows and columns of one frame
  int64_t layers = 48;
  int64_t heads = 24, head_dim = 128;
  int64_t text_dim = 1536;  // of the text's rows in the blocks
  int64_t text_embed_dim = 4096, time_embed_dim = 256;

  // Throws sagelab::Error naming the file and the key: unknown, of a wrong type, or of a value we do not run.
  explicit TransformerConfig(Config& config);
  int64_t dim() const { return heads * head_dim; }  // of the video's rows
  // Between the two linears of a feed-forward whose rows are so wide.
  static int64_t ff_dim(int64_t width) { return 8 * width / 3; }
  int64_t patch_area() const { return patch_size * patch_size; }
};

}  // namespace sagelab::mochi
