// SPDX-License-Identifier: Apache-2.0
// What the tests of the transformer share: a fixture's model, the inputs of its dumped call, and the call.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <utility>

#include "attention/registry.h"
#include "pipelines/sd3/transformer.h"
#include "tests/support/parity.h"

namespace sagelab::sd3 {

inline constexpr const char* kFixtureNames[] = {"sd3", "large", "medium", "odd_config"};
inline constexpr const char* kStem = "diffusion_pytorch_model";
inline constexpr double kBound = 2e-6;

inline std::filesystem::path folder_of(const std::string& name) {
  return testing::fixture("sd3", name) / "transformer";
}

inline testing::Dump dump_of(const std::string& name) {
  return testing::Dump(testing::fixture("sd3", name) / "dump.safetensors");
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

inline Inputs inputs_of(const testing::Dump& dump, Target target = {}) {
  const auto moved = [&](const char* name) { return dump[name].to(target.device, target.dtype); };
  return {moved("latents"), moved("text"), moved("pooled"), dump["t"]};
}

using Observe = std::function<void(const std::string&, const at::Tensor&)>;

inline at::Tensor run(const Transformer& transformer, const Inputs& in, Observe observe = {},
                      const std::string& spec = "sdpa") {
  const auto backend = attention::make_backend(spec);
  attention::Recorder recorder;
  return transformer(in, {*backend, recorder, {}, {}, std::move(observe)});
}

}  // namespace sagelab::sd3
