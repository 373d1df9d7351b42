// SPDX-License-Identifier: Apache-2.0
// What the tests of HunyuanVideo's pipeline share: a fixture's request, and its stages.
#pragma once

#include "pipelines/hunyuanvideo/pipeline.h"
#include "tests/support/picture_checks.h"
#include "tests/support/picture_habits.h"
#include "tests/support/video/runs.h"

namespace sagelab::hunyuanvideo {
using testing::rows_of;
using testing::video_of;

inline constexpr const char* kPipelineNames[] = {"clip", "cut", "picture"};
inline constexpr const char* kModes[] = {"plain", "guided"};

inline std::filesystem::path pipeline_fixture(const std::string& name) {
  return testing::fixture("hunyuanvideo_pipelines", name);
}

inline testing::Dump pipeline_dump(const std::string& name) {
  return testing::Dump(pipeline_fixture(name) / "dump.safetensors");
}

inline const Family& hunyuanvideo_family() {
  return family_of(pipeline_fixture("cut") / "model");
}

// As the dumps "<mode>." were made, unresolved.
inline Request pipeline_request(const std::string& name, const std::string& mode) {
  const nlohmann::json spec = read_json(pipeline_fixture(name) / "request.json");
  Request r = testing::picture_request(pipeline_fixture(name), spec);
  r.num_frames = spec["num_frames"].get<int>();
  if (mode == "guided") {
    r.negative_prompt = spec["negative_prompt"];
    r.options["true_cfg_scale"] = spec["true_cfg_scale"].get<double>();
  }
  return r;
}

}  // namespace sagelab::hunyuanvideo
