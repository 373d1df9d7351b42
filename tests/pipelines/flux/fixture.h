// SPDX-License-Identifier: Apache-2.0
// What the tests of the transformer share: a fixture's model, the inputs of its dumped call, and the call.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "attention/registry.h"
#include "pipelines/flux/tokens.h"
#include "pipelines/flux/transformer.h"
#include "tests/support/parity.h"

namespace sagelab::flux {
inline constexpr const char* kFixtureNames[] = {"schnell", "dev", "odd_config", "default_axes"};
inline constexpr const char* kStem = "diffusion_pytorch_model";
inline constexpr double kBound = 2e-6;

inline std::filesystem::path folder_of(const std::string& name) {
  return testing::fixture("flux", name) / "transformer";
}

inline testing::Dump dump_of(const std::string& name) {
  return testing::Dump(testing::fixture("flux", name) / "dump.safetensors");
}

inline TransformerConfig config_of(const std::string& name) {
  Config file(folder_of(name) / "config.json");
  return TransformerConfig(file);
}

inline Transformer open(const std::string& name, Target target = {}) {
  const Weights w(open_folder(folder_of(name), kStem), target);
  Transformer transformer(w, config_of(name));
  w.require_all_read();
  return transformer;
}

inline Grid grid_of(const testing::Dump& dump) {
  const at::Tensor& latents = dump["latents"];
  return {latents.size(2) / 2, latents.size(3) / 2};
}

inline Inputs inputs_of(const testing::Dump& dump, const TransformerConfig& config, Target target = {}) {
  const auto moved = [&](const char* name) { return dump[name].to(target.device, target.dtype); };
  Inputs in{moved("tokens"), moved("text"), moved("pooled"), dump["t"], {}, {}};
  if (dump.has("guidance")) in.guidance = dump["guidance"];
  in.rope = rope_table(config, in.text.size(1), grid_of(dump), target);
  return in;
}

using Observe = std::function<void(const std::string&, const at::Tensor&)>;

inline at::Tensor run(const Transformer& transformer, const Inputs& in, Observe observe = {},
                      const std::string& spec = "sdpa") {
  const auto backend = attention::make_backend(spec);
  attention::Recorder recorder;
  return transformer(in, {*backend, recorder, {}, {}, std::move(observe)});
}

}  // namespace sagelab::flux
