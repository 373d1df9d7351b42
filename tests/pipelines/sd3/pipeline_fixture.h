// SPDX-License-Identifier: Apache-2.0
// What the tests of Stable Diffusion 3's pipeline share: a fixture's request, and every stage of ours.
#pragma once

#include <fmt/ranges.h>

#include "pipelines/sd3/pipeline.h"
#include "tests/support/picture_checks.h"
#include "tests/support/picture_habits.h"

namespace sagelab::sd3 {

inline constexpr const char* kPipelineNames[] = {"sd3", "large", "medium"};
inline constexpr const char* kModes[] = {"plain", "guided", "skipped"};

inline std::filesystem::path pipeline_fixture(const std::string& name) {
  return testing::fixture("sd3_pipelines", name);
}

inline testing::Dump pipeline_dump(const std::string& name) {
  return testing::Dump(pipeline_fixture(name) / "dump.safetensors");
}

inline const Family& sd3_family() {
  return family_of(pipeline_fixture("large") / "model");
}

// As the dumps "<mode>." were made, unresolved.
inline Request pipeline_request(const std::string& name, const std::string& mode) {
  const nlohmann::json spec = read_json(pipeline_fixture(name) / "request.json");
  Request r = testing::picture_request(pipeline_fixture(name), spec);
  if (mode == "plain") r.guidance_scale = 1;
  r.negative_prompt = spec["negative_prompt"];
  for (const char* key : {"prompt_2", "prompt_3", "negative_prompt_2", "negative_prompt_3"})
    r.options[key] = spec[key].get<std::string>();
  if (spec.contains("clip_skip")) r.options["clip_skip"] = spec["clip_skip"].get<int64_t>();
  if (mode == "skipped")
    r.options["skip_guidance_layers"] =
        fmt::format("{}", fmt::join(spec["skip_guidance_layers"].get<std::vector<int>>(), ","));
  for (const char* key :
       {"skip_layer_guidance_scale", "skip_layer_guidance_start", "skip_layer_guidance_stop"})
    r.options[key] = spec[key].get<double>();
  return r;
}

// Rows of one side, cut into what each encoder gave: clip_l, clip_g, t5, pooled, embeds.
inline std::map<std::string, at::Tensor> text_stages(const Folder& folder, const Conditioning& c, int64_t row,
                                                     const std::string& prefix) {
  const at::Tensor embeds = c.embeds.narrow(0, row, 1);
  const at::Tensor clip = embeds.narrow(1, 0, folder.clip_length);
  const int64_t l = folder.clip_l.hidden_size, g = folder.clip_g.hidden_size;
  return {{prefix + "clip_l", clip.narrow(2, 0, l)},
          {prefix + "clip_g", clip.narrow(2, l, g)},
          {prefix + "t5", embeds.slice(1, folder.clip_length)},
          {prefix + "pooled", c.pooled.narrow(0, row, 1)},
          {prefix + "embeds", embeds}};
}

}  // namespace sagelab::sd3
