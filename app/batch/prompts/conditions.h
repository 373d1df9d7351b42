// SPDX-License-Identifier: Apache-2.0
// Open-Sora's inline conditions: a JSON object at the end of a prompt's line, {"aspect_ratio": "16:9"}.
// Where they stand and what separates them: Open-Sora 1.2, opensora/utils/inference_utils.py,
// extract_json_from_prompts (which knows reference_path and mask_strategy alone). The other keys are the
// settings of its configs, read as there:
// - aspect_ratio "16:9", resolution "256px" or "480p": Open-Sora 2.0, opensora/datasets/aspect.py,
//   get_image_size(training=False), and utils/sampling.py. The ratio is width:height (in 1.x it was
//   height:width). "256px" are 256^2 pixels and "480p" 480^2 * 16 / 9; a bare 256 is 256px, as in 1.x. One
//   side is floor(sqrt(pixels * ratio) / 16) * 16, the other floor(pixels / that / 16) * 16; the longer side
//   goes first, but for 5:8 and 8:5. Open-Sora wants both keys; here the one that is missing is as the
//   request's own size has it.
// - num_frames 51, "2s" or "2x": Open-Sora 1.2, opensora/datasets/aspect.py, get_num_frames (25.5 frames are
//   a second, "1x" are 51).
// - width, height, fps, seed: numbers.
// What they ask for is then moved to the nearest sizes and frames that the model can make.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "pipelines/request.h"

namespace sagelab::batch {

struct Ratio {
  double width = 1, height = 1;
};

struct Conditions {
  std::optional<Ratio> aspect_ratio;
  std::optional<double> pixels;  // in all
  std::optional<int> width, height, num_frames;
  std::optional<double> fps;
  std::optional<uint64_t> seed;
};

// The prompt of a line, and its conditions or null. Throws sagelab::Error where they are no JSON object.
std::pair<std::string, nlohmann::json> split_conditions(const std::string& line);
// Throws sagelab::Error: references and masks, unknown keys and bad values, each by name.
Conditions parse_conditions(const nlohmann::json& json);
// [width, height] of so many pixels.
std::pair<int, int> open_sora_size(double pixels, Ratio ratio);
// What they set in a request; its own width and height must be there where a ratio or a resolution is alone.
void apply(const Conditions& conditions, Request& request);

}  // namespace sagelab::batch
