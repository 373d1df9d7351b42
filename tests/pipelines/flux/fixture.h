// SPDX-License-Identifier: Apache-2.0
// What the tests of the transformer share: a fixture's model, the inputs of its dumped call, and the call.
#pragma once

#include <ATen/ATen.h>

#include <string>

#include "pipelines/flux/tokens.h"
#include "pipelines/flux/transformer.h"
#include "tests/support/transformer_parity.h"

namespace sagelab::flux {
inline constexpr const char* kFixtureNames[] = {"schnell", "dev", "odd_config", "default_axes"};
using testing::kBound;
using testing::kStem;
using testing::run;

inline std::filesystem::path folder_of(const std::string& name) {
  return testing::fixture("flux", name) / "transformer";
}

inline testing::Dump dump_of(const std::string& name) {
  return testing::Dump(testing::fixture("flux", name) / "dump.safetensors");
}

inline TransformerConfig config_of(const std::string& name) {
  return testing::config_in<TransformerConfig>(folder_of(name));
}

inline Transformer open(const std::string& name, Target target = {}) {
  return testing::open_model<Transformer, TransformerConfig>(folder_of(name), target);
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

}  // namespace sagelab::flux
