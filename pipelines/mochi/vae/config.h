// SPDX-License-Identifier: Apache-2.0
// vae/config.json of a Mochi folder: every key honoured or refused by name. Defaults are diffusers' class
// defaults.
#pragma once

#include <cstdint>
#include <vector>

#include "pipelines/core/config.h"
#include "pipelines/core/layers.h"

namespace sagelab::mochi {

struct VaeConfig {
  int64_t out_channels = 3, latent_channels = 12;
  std::vector<int64_t> block_out_channels = {128, 256, 512, 768};  // the decoder's, finest first
  std::vector<int64_t> layers_per_block = {3, 3, 4, 6, 3};         // finest first: one entry more than widths
  std::vector<int64_t> temporal_expansions = {1, 2, 3}, spatial_expansions = {2, 2, 2};  // finest first
  std::vector<double> latents_mean, latents_std;  // one for each latent channel; empty where either is null
  double scaling_factor = 1;
  Activation activation = Activation::Silu;  // before proj_out alone: in the resnets it is always SiLU

  // Throws sagelab::Error naming the file and the key: unknown, of a wrong type, or of a value we do not run.
  explicit VaeConfig(Config& config);
  int64_t spatial_compression() const;
  int64_t temporal_compression() const;
};

// MochiChunkedGroupNorm3D's own, in no config.
constexpr int64_t kNormGroups = 32;
constexpr double kNormEps = 1e-5;

}  // namespace sagelab::mochi
