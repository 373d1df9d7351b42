// SPDX-License-Identifier: Apache-2.0
// What the tests of FLUX's pipeline share: a fixture's request.
#pragma once

#include "pipelines/flux/pipeline.h"
#include "pipelines/flux/plan.h"
#include "tests/support/picture_checks.h"
#include "tests/support/picture_habits.h"

namespace sagelab::flux {
using testing::OneRun;
using testing::pixels_of;

inline constexpr const char* kPipelineNames[] = {"schnell", "dev"};
inline constexpr const char* kModes[] = {"plain", "guided"};

inline std::filesystem::path pipeline_fixture(const std::string& name) {
  return testing::fixture("flux_pipelines", name);
}

inline testing::Dump pipeline_dump(const std::string& name) {
  return testing::Dump(pipeline_fixture(name) / "dump.safetensors");
}

inline const Family& flux_family() {
  return family_of(pipeline_fixture("dev") / "model");
}

// As the dumps "<mode>." were made, unresolved.
inline Request pipeline_request(const std::string& name, const std::string& mode) {
  const nlohmann::json spec = read_json(pipeline_fixture(name) / "request.json");
  Request r = testing::picture_request(pipeline_fixture(name), spec);
  r.options["prompt_2"] = spec["prompt_2"].get<std::string>();
  if (mode == "guided") {
    r.negative_prompt = spec["negative_prompt"];
    r.options["negative_prompt_2"] = spec["negative_prompt_2"].get<std::string>();
    r.options["true_cfg_scale"] = spec["true_cfg_scale"].get<double>();
  }
  return r;
}

}  // namespace sagelab::flux
