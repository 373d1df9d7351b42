// SPDX-License-Identifier: Apache-2.0
// What the tests of FLUX's pipeline share: a fixture's request, the latents of a run, its picture.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <memory>
#include <string>
#include <vector>

#include "attention/registry.h"
#include "pipelines/flux/pipeline.h"
#include "pipelines/flux/plan.h"
#include "tests/support/parity.h"

namespace sagelab::flux {
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
  Request r;
  r.model = (pipeline_fixture(name) / "model").string();
  r.prompt = spec["prompt"];
  r.options["prompt_2"] = spec["prompt_2"].get<std::string>();
  r.options["max_sequence_length"] = spec["max_sequence_length"].get<int64_t>();
  if (mode == "guided") {
    r.negative_prompt = spec["negative_prompt"];
    r.options["negative_prompt_2"] = spec["negative_prompt_2"].get<std::string>();
    r.options["true_cfg_scale"] = spec["true_cfg_scale"].get<double>();
  }
  r.height = spec["height"].get<int>();
  r.width = spec["width"].get<int>();
  r.steps = spec["num_inference_steps"].get<int>();
  r.guidance_scale = spec["guidance_scale"].get<double>();
  r.seed = spec["seed"];
  r.device = "cpu";
  r.vae_tiling = "off";
  return r;
}

struct OneRun {
  explicit OneRun(const std::string& spec = "sdpa")
      : context{std::make_shared<attention::Selector>(attention::make_backend(spec)), recorder, {}, {}} {}
  attention::Recorder recorder;
  RunContext context;
};

// The latents after every step, from the prompt on; and what went before them.
struct Steps {
  Conditioning conditioning;
  at::Tensor noise;
  std::vector<double> timesteps;
  at::Tensor sigmas;
  std::vector<at::Tensor> latents;
};

inline Steps steps_of(const Request& request) {
  const c10::InferenceMode inference;
  OneRun run;
  Flux pipeline(request);
  Steps all;
  all.conditioning = pipeline.encode(request, run.context);
  const auto state = pipeline.prepare(request, all.conditioning, run.context);
  all.noise = state->latents;
  all.timesteps = state->sampler->timesteps();
  all.sigmas = static_cast<const FlowMatchEuler&>(*state->sampler).sigmas();
  const attention::BackendPtr backend = run.context.attention->current();
  for (int i = 0; i < state->steps; ++i) {
    attention::Site site;
    site.step = i;
    site.steps = state->steps;
    pipeline.advance(*state, i, pipeline.predict(*state, i, Forward{*backend, run.recorder, site, {}}));
    all.latents.push_back(state->latents.clone());
  }
  return all;
}

inline at::Tensor decoded(const Request& request, const at::Tensor& latents) {
  const c10::InferenceMode inference;
  OneRun run;
  return Flux(request).decode(latents, request, run.context);
}

inline at::Tensor pixels_of(const Picture& picture) {  // uint8 [1, H, W, 3]
  return at::tensor(at::ArrayRef<uint8_t>(picture.pixels), at::kByte)
      .view({picture.frames, picture.height, picture.width, 3});
}

}  // namespace sagelab::flux
