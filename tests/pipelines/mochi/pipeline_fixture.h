// SPDX-License-Identifier: Apache-2.0
// What the tests of Mochi's pipeline share: a fixture's request, and its stages.
#pragma once

#include "pipelines/mochi/pipeline.h"
#include "tests/support/pictures/fixtures.h"
#include "tests/support/video/runs.h"

namespace sagelab::mochi {
using testing::rows_of;

inline Request request_of(const std::filesystem::path& folder, const std::string& mode) {
  const nlohmann::json spec = read_json(folder / "request.json");
  Request r = testing::picture_request(folder, spec);
  r.negative_prompt = spec["negative_prompt"];
  r.num_frames = spec["num_frames"].get<int>();
  if (mode == "plain") r.guidance_scale = 1;
  return r;
}

inline constexpr const char* kPipelineNames[] = {"empty", "cut", "picture"};
inline constexpr const char* kModes[] = {"plain", "guided"};
inline constexpr testing::PipelineFixtures kPipelines{"mochi_pipelines", kPipelineNames, kModes, request_of};

}  // namespace sagelab::mochi
