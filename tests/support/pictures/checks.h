// SPDX-License-Identifier: Apache-2.0
// More of what the tests of picture pipelines share: their requests, memory, mutants, released names.
#pragma once

#include "tests/support/pictures/runs.h"

namespace sagelab::testing {

// What the oracle's call had whatever the family: of a fixture's folder and its request.json. Unresolved.
inline Request picture_request(const std::filesystem::path& folder, const nlohmann::json& spec) {
  Request r;
  r.model = (folder / "model").string();
  r.prompt = spec.at("prompt");
  r.options["max_sequence_length"] = spec.at("max_sequence_length").get<int64_t>();
  r.height = spec.at("height").get<int>();
  r.width = spec.at("width").get<int>();
  r.steps = spec.at("num_inference_steps").get<int>();
  r.guidance_scale = spec.at("guidance_scale").get<double>();
  r.seed = spec.at("seed");
  r.device = "cpu";
  r.vae_tiling = "off";
  return r;
}

// Of so many phases.
inline void expect_peaks(const Family& family, const Request& request, size_t phases = 3) {
  OneRun run(request.attention);
  const Plan plan = family.plan(request);
  const int64_t before = tensor_bytes(at::kCPU);
  const auto pipeline = family.open(request, run.context);
  const Result result = generate(*pipeline, request, "", run.context);
  ASSERT_EQ(result.peak_by_phase.size(), plan.peak_by_phase.size());
  ASSERT_LE(phases, plan.peak_by_phase.size());
  for (size_t i = 0; i < phases; ++i) {
    const auto& [phase, bytes] = plan.peak_by_phase[i];
    const double used = double(result.peak_by_phase[i].second - before);
    EXPECT_EQ(phase, result.peak_by_phase[i].first);
    EXPECT_NEAR(double(bytes) / used, 1, 0.15)
        << phase << ", offload " << request.offload << ", " << request.attention << " in " << request.dtype
        << ": " << bytes << " for " << used;
  }
}

// Within 15 % of the tensors that a run then holds, phase by phase: small, and where attention weighs. steps:
// as few as the schedule has.
inline void expect_peaks_small_and_large(const Family& family, Request request, int unit, int steps = 1) {
  count_cpu_tensors();
  request.steps = steps;
  for (const char* offload : {"none", "encoders"}) {
    request.offload = offload;
    expect_peaks(family, request);
  }
  request.height = 16 * *request.height / 3 / unit * unit;
  request.width = 16 * *request.width / 3 / unit * unit;
  for (const char* spec : {"sdpa", "sage2", "sage2(qk=int4)"}) {
    request.attention = spec;
    bool runs = true;
    for (const auto& problem : family.plan(request).problems)
      runs = runs && attention::make_backend(spec)->unsupported(problem).empty();
    if (runs) expect_peaks(family, request);
  }
}

// Ours of each stage stays within the bound of diffusers' own, and outside it of what every mutant gives.
inline void expect_mutants_fail(const std::map<std::string, at::Tensor>& ours, const Dump& dump,
                                const Dump& mutants, const std::function<double(const std::string&)>& bound) {
  fmt::print("{:<46} {:<18} {:>10} {:>10} {:>10}\n", "mutant", "stage", "ours", "allowed", "mutant");
  for (const auto& [label, wrong] : mutants.tensors()) {
    const auto bar = label.find('|');
    const std::string mutant = label.substr(0, bar), stage = label.substr(bar + 1);
    const double allowed = bound(stage);
    const double right = relative_l2(ours.at(stage), dump[stage]);
    const double off = relative_l2(ours.at(stage), wrong);
    fmt::print("{:<46} {:<18} {:>10.1e} {:>10.1e} {:>10.1e}\n", mutant, stage, right, allowed, off);
    EXPECT_LE(right, allowed) << stage;
    EXPECT_GT(off, 3 * allowed) << mutant << " is within reach of the bound of " << stage;
  }
}

// Ours from the noise on, by the dump's keys; what follows the last latents is made of the dump's.
inline std::map<std::string, at::Tensor> picture_stages(const Family& family, const Request& request,
                                                        const Steps& steps, const Dump& dump,
                                                        const std::string& mode) {
  const std::string last = fmt::format("{}.latents.{}", mode, steps.latents.size() - 1);
  const at::Tensor image = decoded(family, request, dump[last]);
  return {{"noise", steps.noise},
          {mode + ".sigmas", steps.sigmas},
          {last, steps.latents.back()},
          {mode + ".image", as_dumped(image, dump[mode + ".image"])},
          {mode + ".pixels", pixels_of(to_picture(image))}};
}

// Of the stages of a pipeline in fp32.
inline double pipeline_bound(const std::string& stage) {
  if (stage == "noise") return 0;
  if (stage.find("latents") != std::string::npos) return 1e-5;
  if (stage.ends_with("sigmas")) return 1e-7;
  if (stage.ends_with("image")) return 5e-6;
  if (stage.ends_with("pixels")) return 1e-3;
  return 2e-6;  // the encoders'
}

// The released sizes: what we read is what diffusers and transformers hold.
inline void expect_released_names(const Family& family, const std::filesystem::path& file) {
  const nlohmann::json all = read_json(file);
  ASSERT_FALSE(all.empty());
  for (const auto& [variant, components] : all.items()) {
    for (const std::string& component : family.components) {
      const auto& entry = components.at(component);
      nlohmann::json ours = nlohmann::json::object();
      for (const auto& [key, shape] : family.names(component, entry.at("config"))) ours[key] = shape;
      EXPECT_EQ(ours, entry.at("names")) << variant << " " << component;
    }
  }
}

}  // namespace sagelab::testing
