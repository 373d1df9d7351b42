// SPDX-License-Identifier: Apache-2.0
// The configs of a CogVideoX folder: every key honoured or refused by name. Defaults are diffusers' class
// defaults.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pipelines/core/config.h"
#include "pipelines/core/layers.h"

namespace sagelab::cogvideox {

struct TransformerConfig {
  int64_t heads = 30, head_dim = 64, in_channels = 16, out_channels = 16, layers = 30;
  int64_t patch_size = 2, patch_size_t = 0;  // 0: none (2B, 5B)
  bool patch_bias = true;
  int64_t sample_height = 60, sample_width = 90, sample_frames = 49;
  bool rotary = false, learned_positions = false;
  int64_t time_embed_dim = 512, text_embed_dim = 4096, max_text_seq_length = 226;
  int64_t temporal_compression_ratio = 4;
  double spatial_interpolation_scale = 1.875, temporal_interpolation_scale = 1.0;
  bool norm_affine = true;
  double norm_eps = 1e-5;
  Activation activation = Activation::GeluTanh, timestep_activation = Activation::Silu;
  bool gated_ff = false;  // geglu, swiglu: the first linear makes values and gates
  bool attention_bias = true, flip_sin_to_cos = true;
  double freq_shift = 0;

  // Throws sagelab::Error naming the file and the key: unknown, of a wrong type, or of a value we do not run.
  explicit TransformerConfig(Config& config);
  int64_t dim() const { return heads * head_dim; }
  int64_t ff_dim() const { return 4 * dim(); }
  int64_t temporal_patch() const { return patch_size_t ? patch_size_t : 1; }
};

struct VaeConfig {
  int64_t in_channels = 3, out_channels = 3, latent_channels = 16;
  std::vector<int64_t> block_out_channels = {128, 256, 256, 512};
  int64_t layers_per_block = 3, norm_num_groups = 32, temporal_compression_ratio = 4;
  double norm_eps = 1e-6;
  int64_t sample_height = 480, sample_width = 720;
  double scaling_factor = 1.15258426;
  Activation activation = Activation::Silu;

  // Throws as above.
  explicit VaeConfig(Config& config);
  int64_t spatial_compression() const { return int64_t(1) << (block_out_channels.size() - 1); }
};

}  // namespace sagelab::cogvideox
