// SPDX-License-Identifier: Apache-2.0
// What the tests of the transformer share: a fixture's model, the inputs of its dumped call, and the call.
#pragma once

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <string>

#include "pipelines/mochi/transformer.h"
#include "tests/support/transformer_parity.h"

namespace sagelab::mochi {
inline constexpr const char* kFixtureNames[] = {"picture", "clip", "odd_config", "default_keys"};
using testing::kBound;
using testing::run;

inline std::filesystem::path folder_of(const std::string& name) {
  return testing::fixture("mochi", name) / "transformer";
}

// Of the whole batch.
inline testing::Dump dump_of(const std::string& name) {
  return testing::Dump(testing::fixture("mochi", name) / "dump.safetensors");
}

// One sample of it, whose stages have no padded rows.
struct Sample {
  const char* name;
  int index;
};
inline constexpr Sample kSamples[] = {{"picture", 0},      {"clip", 0},        {"clip", 1},
                                      {"odd_config", 0},   {"odd_config", 1},  {"odd_config", 2},
                                      {"default_keys", 0}, {"default_keys", 1}};

inline testing::Dump dump_of(const Sample& sample) {
  return testing::Dump(testing::fixture("mochi", sample.name) /
                       fmt::format("sample.{}.safetensors", sample.index));
}

inline TransformerConfig config_of(const std::string& name) {
  return testing::config_in<TransformerConfig>(folder_of(name));
}

inline Transformer open(const std::string& name, Target target = {}) {
  return testing::open_model<Transformer, TransformerConfig>(folder_of(name), target);
}

inline Inputs inputs_of(const testing::Dump& dump, const TransformerConfig& config, Target target = {}) {
  const auto moved = [&](const char* name) { return dump[name].to(target.device, target.dtype); };
  Inputs in{moved("latents"), moved("text"), dump["lengths"], dump["t"], {}};
  in.positions = positions_of(grid_of(config, in.latents), target.device);
  return in;
}

}  // namespace sagelab::mochi
