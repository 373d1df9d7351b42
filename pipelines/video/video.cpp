// SPDX-License-Identifier: Apache-2.0
#include "pipelines/video/video.h"

#include <ATen/ATen.h>

#include "pipelines/common/checks.h"

namespace sagelab {

void fill_video(Request& r, const VideoDefaults& defaults, const std::vector<Option>& options) {
  if (!r.height) r.height = defaults.height;
  if (!r.width) r.width = defaults.width;
  if (!r.num_frames) r.num_frames = defaults.frames;
  if (!r.steps) r.steps = defaults.steps;
  if (!r.guidance_scale) r.guidance_scale = defaults.guidance_scale;
  if (!r.fps) r.fps = defaults.fps;
  fill_options(r, options);
}

void check_video(const Request& r, const VideoUnits& units) {
  check_multiple("height", *r.height, units.side);
  check_multiple("width", *r.width, units.side);
  check_frames(*r.num_frames, units.frames);
}

Request fit_video(const Request& request, const VideoUnits& units) {
  Request r = request;
  if (r.width) r.width = nearest_multiple(*r.width, int(units.side));
  if (r.height) r.height = nearest_multiple(*r.height, int(units.side));
  if (r.num_frames) r.num_frames = nearest_frames(*r.num_frames, int(units.frames));
  return r;
}

VideoSizes video_sizes(const Request& request, const VideoScale& scale, int64_t text_tokens) {
  VideoSizes s;
  s.channels = scale.channels;
  s.frames = (request.num_frames.value() - 1) / scale.time + 1;
  s.height = request.height.value() / scale.space;
  s.width = request.width.value() / scale.space;
  s.grid = {s.frames, s.height / scale.patch, s.width / scale.patch};
  s.text_tokens = text_tokens;
  return s;
}

at::Tensor video_noise(const VideoSizes& sizes, at::Generator& generator) {
  return at::randn(sizes.latents(), generator, at::TensorOptions(at::kFloat));
}

std::function<bool(int64_t, int64_t)> decoding_progress(const RunContext& run) {
  return [&run](int64_t done, int64_t total) {
    run.say(Phase{"decode", done, total});
    return !run.stop.stop_requested();
  };
}

at::Tensor frames_of(const at::Tensor& video) {
  return video[0].permute({1, 0, 2, 3});
}

}  // namespace sagelab
