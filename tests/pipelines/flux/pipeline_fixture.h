// SPDX-License-Identifier: Apache-2.0
// What the tests of FLUX's pipeline share: a fixture's request.
#pragma once

#include "pipelines/flux/pipeline.h"
#include "pipelines/flux/plan.h"
#include "tests/support/pictures/fixtures.h"

namespace sagelab::flux {
using testing::OneRun;
using testing::pixels_of;

inline Request request_of(const std::filesystem::path& folder, const std::string& mode) {
  const nlohmann::json spec = read_json(folder / "request.json");
  Request r = testing::picture_request(folder, spec);
  r.options["prompt_2"] = spec["prompt_2"].get<std::string>();
  if (mode == "guided") {
    r.negative_prompt = spec["negative_prompt"];
    r.options["negative_prompt_2"] = spec["negative_prompt_2"].get<std::string>();
    r.options["true_cfg_scale"] = spec["true_cfg_scale"].get<double>();
  }
  return r;
}

inline constexpr const char* kPipelineNames[] = {"schnell", "dev"};
inline constexpr const char* kModes[] = {"plain", "guided"};
inline constexpr testing::PipelineFixtures kPipelines{"flux_pipelines", kPipelineNames, kModes, request_of};

}  // namespace sagelab::flux
