// SPDX-License-Identifier: Apache-2.0
#include "pipelines/common/checks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "attention/error.h"
#include "pipelines/core/utf8.h"

namespace sagelab {

void check_multiple(const char* name, int value, int64_t unit) {
  if (value > 0 && value % unit == 0) return;
  const int64_t below = value / unit * unit;
  const std::string nearest =
      below >= unit ? fmt::format("{} or {}", below, below + unit) : fmt::format("{}", unit);
  throw Error(fmt::format("{} is {}, not a multiple of {}", name, value, unit), "nearest: " + nearest);
}

void check_choice(const char* name, const std::string& value, std::initializer_list<const char*> choices) {
  for (const char* choice : choices)
    if (value == choice) return;
  throw Error(fmt::format("{} is \"{}\", not one of: {}", name, value, fmt::join(choices, ", ")));
}

void check_words(const Request& r, const std::vector<Option>& options) {
  check_utf8(r.prompt, "prompt");
  check_utf8(r.negative_prompt, "negative prompt");
  check_choice("vae_tiling", r.vae_tiling, {"auto", "on", "off"});
  check_choice("offload", r.offload, {"auto", "none", "encoders", "layers"});
  check_choice("attention_switch", r.attention_switch, {"forward", "call"});
  check_options(r.options, options);
}

void check_numbers(const Request& r) {
  if (!(std::isfinite(*r.guidance_scale) && *r.guidance_scale >= 0))
    throw Error(fmt::format("guidance_scale is {}, not a number of at least 0", *r.guidance_scale),
                "up to 1 does not guide, unless the model takes the scale as an input");
  if (!(std::isfinite(*r.fps) && *r.fps > 0 && *r.fps <= 1000))
    throw Error(fmt::format("fps is {}, not within 0 to 1000", *r.fps));
  if (r.preview < 0) throw Error(fmt::format("preview is {}, not a number of steps", r.preview));
}

void fill_options(Request& r, const std::vector<Option>& options) {
  for (const Option& option : options) r.options[option.name] = option_value(r, options, option.name);
}

void check_latents(const std::vector<int64_t>& shape, const std::vector<int64_t>& wanted) {
  if (shape != wanted)
    throw Error(fmt::format("the latents are [{}], and this request's are [{}]", fmt::join(shape, ", "),
                            fmt::join(wanted, ", ")));
}

void check_frames(int frames, int64_t ratio) {
  if (frames > 0 && (frames - 1) % ratio == 0) return;
  const int64_t below = frames > 0 ? (frames - 1) / ratio * ratio + 1 : 1;
  throw Error(fmt::format("num_frames is {}, not of the form {}k + 1", frames, ratio),
              frames > 0 ? fmt::format("nearest: {} or {}", below, below + ratio) : "nearest: 1");
}

int nearest_frames(int frames, int ratio) {
  return frames <= 1 ? 1 : (frames - 1 + (ratio - 1) / 2) / ratio * ratio + 1;
}

int nearest_multiple(int value, int unit) {
  return std::max(1, (value + (unit - 1) / 2) / unit) * unit;
}

}  // namespace sagelab
