// SPDX-License-Identifier: Apache-2.0
// What the tests of the transformer share: a fixture's model, the inputs of its dumped call, and the call.
#pragma once

#include <ATen/ATen.h>

#include <string>

#include "pipelines/sd3/transformer.h"
#include "tests/support/transformer_parity.h"

namespace sagelab::sd3 {

inline constexpr const char* kFixtureNames[] = {"sd3", "large", "medium", "odd_config", "wide_heads"};
using testing::kBound;
using testing::kStem;
using testing::run;

inline std::filesystem::path folder_of(const std::string& name) {
  return testing::fixture("sd3", name) / "transformer";
}

inline testing::Dump dump_of(const std::string& name) {
  return testing::Dump(testing::fixture("sd3", name) / "dump.safetensors");
}

inline TransformerConfig config_of(const std::string& name) {
  return testing::config_in<TransformerConfig>(folder_of(name));
}

inline Transformer open(const std::string& name, Target target = {}) {
  return testing::open_model<Transformer, TransformerConfig>(folder_of(name), target);
}

inline Inputs inputs_of(const testing::Dump& dump, Target target = {}) {
  const auto moved = [&](const char* name) { return dump[name].to(target.device, target.dtype); };
  return {moved("latents"), moved("text"), moved("pooled"), dump["t"]};
}

}  // namespace sagelab::sd3
