// SPDX-License-Identifier: Apache-2.0
#include "pipelines/image/picture.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "attention/error.h"
#include "pipelines/common/checks.h"

namespace sagelab {

void fill_picture(Request& r, const PictureDefaults& defaults, const std::vector<Option>& options) {
  if (!r.height) r.height = int(defaults.side);
  if (!r.width) r.width = int(defaults.side);
  if (!r.num_frames) r.num_frames = 1;
  if (!r.steps) r.steps = defaults.steps;
  if (!r.guidance_scale) r.guidance_scale = defaults.guidance_scale;
  if (!r.fps) r.fps = 1;
  fill_options(r, options);
}

void check_picture(const Request& r, int64_t unit) {
  check_multiple("height", *r.height, unit);
  check_multiple("width", *r.width, unit);
  if (*r.num_frames != 1)
    throw Error(fmt::format("num_frames is {}, and this model makes pictures", *r.num_frames),
                "leave it out, or make it 1");
}

Request fit_picture(const Request& request, int64_t unit) {
  Request r = request;
  if (r.width) r.width = nearest_multiple(*r.width, int(unit));
  if (r.height) r.height = nearest_multiple(*r.height, int(unit));
  if (r.num_frames) r.num_frames = 1;
  return r;
}

at::Tensor decode_picture(const AutoencoderKL& vae, const at::Tensor& latents, bool tiled,
                          const RunContext& run) {
  return vae.decode(vae.unscale(latents), {.tiled = tiled, .on_tile = [&](int64_t done, int64_t total) {
                                             run.say(Phase{"decode", done, total});
                                             return !run.stop.stop_requested();
                                           }});
}

}  // namespace sagelab
