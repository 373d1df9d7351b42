// SPDX-License-Identifier: Apache-2.0
// What families that make a video have in common: the sizes of a request, its latents, their decoding.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "pipelines/run.h"
#include "pipelines/video/grid.h"

namespace sagelab {

// diffusers' __call__ defaults of a family; sides in pixels.
struct VideoDefaults {
  int height = 0, width = 0, frames = 0, steps = 0;
  double guidance_scale = 0, fps = 0;
};
// Fills in every unset field and option.
void fill_video(Request& request, const VideoDefaults& defaults, const std::vector<Option>& options);

struct VideoUnits {
  int64_t side = 1;    // pixels of which height and width are multiples
  int64_t frames = 1;  // that a latent frame holds, all but the first
};
// Throws sagelab::Error for sizes that are not made of these.
void check_video(const Request& request, const VideoUnits& units);
// Moves sizes, where they are set, to the nearest that can be made.
Request fit_video(const Request& request, const VideoUnits& units);

// A run's sizes in latents and tokens.
struct VideoSizes {
  int64_t channels = 0, frames = 0, height = 0, width = 0;  // of latents
  Grid grid;
  int64_t text_tokens = 0;  // at most: a prompt's own number counts
  int64_t rows() const { return grid.tokens() + text_tokens; }
  std::vector<int64_t> latents() const { return {1, channels, frames, height, width}; }
};
// How pixels become latents, and those patches.
struct VideoScale {
  int64_t channels = 0, space = 1, time = 1, patch = 1;  // space: pixels to a latent's side
};
VideoSizes video_sizes(const Request& request, const VideoScale& scale, int64_t text_tokens);

// fp32, drawn on the CPU whatever the device.
at::Tensor video_noise(const VideoSizes& sizes, at::Generator& generator);

// What a decoder tells how far it is: says so, and whether to go on.
std::function<bool(int64_t done, int64_t total)> decoding_progress(const RunContext& run);
// [1, C, T, H, W] -> [T, C, H, W]
at::Tensor frames_of(const at::Tensor& video);

}  // namespace sagelab
