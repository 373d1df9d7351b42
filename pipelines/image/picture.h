// SPDX-License-Identifier: Apache-2.0
// What families that make one picture have in common: the sizes of a request, and its decoding.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "pipelines/image/autoencoder_kl.h"
#include "pipelines/run.h"

namespace sagelab {

// diffusers' __call__ defaults of a family.
struct PictureDefaults {
  int64_t side = 0;  // in pixels
  int steps = 0;
  double guidance_scale = 0;
};
// Fills in every unset field and option.
void fill_picture(Request& request, const PictureDefaults& defaults, const std::vector<Option>& options);
// Throws sagelab::Error for sides that are no multiples of unit, and for more frames than one.
void check_picture(const Request& request, int64_t unit);
// Moves sides, where they are set, to the nearest that can be made, and frames to one.
Request fit_picture(const Request& request, int64_t unit);

// latents [1, C, h, w] as a model made them -> [1, 3, H, W], in the autoencoder's dtype.
at::Tensor decode_picture(const AutoencoderKL& vae, const at::Tensor& latents, bool tiled,
                          const RunContext& run);

}  // namespace sagelab
