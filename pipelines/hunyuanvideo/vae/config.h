// SPDX-License-Identifier: Apache-2.0
// vae/config.json of a HunyuanVideo folder: every key honoured or refused by name. Defaults are diffusers'
// class defaults.
#pragma once

#include <cstdint>
#include <vector>

#include "pipelines/core/config.h"
#include "pipelines/core/layers.h"

namespace sagelab::hunyuanvideo {

struct VaeConfig {
  int64_t out_channels = 3, latent_channels = 16;
  std::vector<int64_t> block_out_channels = {128, 256, 512, 512};  // finest first
  int64_t layers_per_block = 2, norm_num_groups = 32;
  double scaling_factor = 0.476986;
  int64_t spatial_compression = 8, temporal_compression = 4;
  bool mid_block_add_attention = true;
  Activation activation = Activation::Silu;  // of the resnets; the one before conv_out is always SiLU

  // Throws sagelab::Error naming the file and the key: unknown, of a wrong type, or of a value we do not run.
  explicit VaeConfig(Config& config);

  // How often frames, and rows and columns, are repeated behind the decoder's block i.
  struct Factors {
    int64_t time = 1, space = 1;
  };
  Factors upsampling(int64_t i) const;
  int64_t frames_of(int64_t latents) const { return (latents - 1) * temporal_compression + 1; }
};

}  // namespace sagelab::hunyuanvideo
