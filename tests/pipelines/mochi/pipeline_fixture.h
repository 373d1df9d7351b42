// SPDX-License-Identifier: Apache-2.0
// What the tests of Mochi's pipeline share: a fixture's request, and its stages.
#pragma once

#include "pipelines/mochi/pipeline.h"
#include "tests/support/picture_checks.h"
#include "tests/support/picture_habits.h"
#include "tests/support/video/runs.h"

namespace sagelab::mochi {
using testing::rows_of;
using testing::video_of;

inline constexpr const char* kPipelineNames[] = {"empty", "cut", "picture"};
inline constexpr const char* kModes[] = {"plain", "guided"};

inline std::filesystem::path pipeline_fixture(const std::string& name) {
  return testing::fixture("mochi_pipelines", name);
}

inline testing::Dump pipeline_dump(const std::string& name) {
  return testing::Dump(pipeline_fixture(name) / "dump.safetensors");
}

inline const Family& mochi_family() {
  return family_of(pipeline_fixture("cut") / "model");
}

// As the dumps "<mode>." were made, unresolved.
inline Request pipeline_request(const std::string& name, const std::string& mode) {
  const nlohmann::json spec = read_json(pipeline_fixture(name) / "request.json");
  Request r;
  r.model = (pipeline_fixture(name) / "model").string();
  r.prompt = spec["prompt"];
  r.negative_prompt = spec["negative_prompt"];
  r.options["max_sequence_length"] = spec["max_sequence_length"].get<int64_t>();
  r.height = spec["height"].get<int>();
  r.width = spec["width"].get<int>();
  r.num_frames = spec["num_frames"].get<int>();
  r.steps = spec["num_inference_steps"].get<int>();
  r.guidance_scale = mode == "plain" ? 1.0 : spec["guidance_scale"].get<double>();
  r.seed = spec["seed"];
  r.device = "cpu";
  r.vae_tiling = "off";
  return r;
}

}  // namespace sagelab::mochi
