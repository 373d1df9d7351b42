// SPDX-License-Identifier: Apache-2.0
// What the tests of Stable Diffusion 3's pipeline share: a fixture's request, and every stage of ours.
#pragma once

#include <fmt/ranges.h>

#include "pipelines/sd3/pipeline.h"
#include "tests/support/pictures/fixtures.h"

namespace sagelab::sd3 {

inline Request request_of(const std::filesystem::path& folder, const std::string& mode) {
  const nlohmann::json spec = read_json(folder / "request.json");
  Request r = testing::picture_request(folder, spec);
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

inline constexpr const char* kPipelineNames[] = {"sd3", "large", "medium"};
inline constexpr const char* kModes[] = {"plain", "guided", "skipped"};
inline constexpr testing::PipelineFixtures kPipelines{"sd3_pipelines", kPipelineNames, kModes, request_of};

// pooled and embeds, and what each encoder gave of those: clip_l, clip_g, t5.
inline std::map<std::string, at::Tensor> text_stages(const Folder& folder, const Conditioning& c) {
  auto all = testing::text_stages(c);
  const int64_t l = folder.clip_l.hidden_size, g = folder.clip_g.hidden_size;
  for (const std::string prefix : {"", "negative."}) {
    if (!all.count(prefix + "embeds")) continue;
    const at::Tensor embeds = all[prefix + "embeds"], clip = embeds.narrow(1, 0, folder.clip_length);
    all[prefix + "clip_l"] = clip.narrow(2, 0, l);
    all[prefix + "clip_g"] = clip.narrow(2, l, g);
    all[prefix + "t5"] = embeds.slice(1, folder.clip_length);
  }
  return all;
}

}  // namespace sagelab::sd3
