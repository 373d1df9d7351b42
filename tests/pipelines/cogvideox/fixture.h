// SPDX-License-Identifier: Apache-2.0
// What the tests of a whole pipeline share: a fixture's request, its stages one by one, and the loop.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "attention/registry.h"
#include "pipelines/cogvideox/pipeline.h"
#include "pipelines/cogvideox/plan.h"
#include "tests/support/parity.h"

namespace sagelab::cogvideox {
inline constexpr const char* kFixtureNames[] = {"2b", "5b", "1.5", "long_even", "long_odd", "odd_config"};

inline std::string test_name(std::string name) {
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

inline const Family& cogvideox_family() {
  return families().front();
}

inline nlohmann::json spec_of(const std::string& name) {
  return read_json(testing::fixture("cogvideox", name) / "request.json");
}

inline Request request_of(const std::string& name) {
  const nlohmann::json spec = spec_of(name);
  Request r;
  r.model = (testing::fixture("cogvideox", name) / "model").string();
  r.prompt = spec["prompt"];
  r.negative_prompt = spec["negative_prompt"];
  r.height = spec["height"].get<int>();
  r.width = spec["width"].get<int>();
  r.num_frames = spec["num_frames"].get<int>();
  r.steps = spec["steps"].get<int>();
  r.guidance_scale = spec["guidance_scale"].get<double>();
  r.seed = spec["seed"];
  r.device = "cpu";
  r.vae_tiling = "off";
  return r;
}

// As the dumps "<scheduler>.<mode>." were made; mode: guided, plain or dynamic.
inline Request in_mode(Request r, const std::string& name, const std::string& scheduler,
                       const std::string& mode) {
  r.options["scheduler"] = scheduler;
  r.options["use_dynamic_cfg"] = mode == "dynamic";
  if (mode == "plain") r.guidance_scale = 1;
  if (mode == "dynamic") r.steps = spec_of(name)["dynamic_steps"].get<int>();
  return r;
}

struct OneRun {
  explicit OneRun(const std::string& spec = "sdpa")
      : context{std::make_shared<attention::Selector>(attention::make_backend(spec)), recorder, {}, {}} {}
  attention::Recorder recorder;
  RunContext context;
};

// The latents after every step, through the pipeline's own steps.
inline std::vector<at::Tensor> step_through(Pipeline& pipeline, State& state, const RunContext& run) {
  std::vector<at::Tensor> all;
  const attention::BackendPtr backend = run.attention->current();
  for (int i = 0; i < state.steps; ++i) {
    attention::Site site;
    site.step = i;
    site.steps = state.steps;
    pipeline.advance(state, i, pipeline.predict(state, i, Forward{*backend, run.recorder, site, {}}));
    all.push_back(state.latents.clone());
  }
  return all;
}

using Observe = std::function<void(const std::string& name, const at::Tensor& value)>;

// The components of a fixture, one call each from the dumped input before it.
struct Stages {
  std::filesystem::path model;
  const testing::Dump& dump;
  Target target = {};

  at::Tensor moved(const char* key) const { return dump[key].to(target.device, target.dtype); }
  at::Tensor text(const Observe& observe = {}) const {
    return load<T5Encoder, T5Config>("text_encoder", "model")(dump["ids"].to(target.device), {}, observe);
  }
  at::Tensor forward(const RunContext& run, const Observe& observe = {}) const {
    const auto transformer = load<Transformer, TransformerConfig>("transformer", "diffusion_pytorch_model");
    const at::Tensor latents = moved("forward.latents"), text = moved("forward.text");
    const Extent extent{text.size(1), latents.size(1), latents.size(3), latents.size(4)};
    const attention::BackendPtr backend = run.attention->current();
    return transformer(latents, text, dump["forward.t"].to(target.device),
                       rope_table(transformer.config(), extent, target.device),
                       Forward{*backend, run.recorder, {}, {}, observe});
  }
  at::Tensor decode(bool tiled) const {
    return load<VaeDecoder, VaeConfig>("vae", "diffusion_pytorch_model").decode(moved("vae.z"), tiled);
  }
  template <typename Model, typename ModelConfig>
  Model load(const char* component, const char* stem) const {
    Config config(model / component / "config.json");
    const Weights w(open_folder(model / component, stem), target);
    Model loaded(w, ModelConfig(config));
    w.require_all_read(component_in(component_table(), component).unread);
    return loaded;
  }
};

inline at::Tensor pixels_of(const Picture& picture) {  // uint8 [T, H, W, 3]
  return at::tensor(at::ArrayRef<uint8_t>(picture.pixels), at::kByte)
      .view({picture.frames, picture.height, picture.width, 3});
}

}  // namespace sagelab::cogvideox
