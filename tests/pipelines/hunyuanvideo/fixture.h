// SPDX-License-Identifier: Apache-2.0
// What the tests of the transformer share: a fixture's model, the inputs of its dumped call, and the call.
#pragma once

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <string>

#include "pipelines/hunyuanvideo/transformer.h"
#include "tests/support/transformer_parity.h"

namespace sagelab::hunyuanvideo {
inline constexpr const char* kFixtureNames[] = {"picture", "clip", "odd_config", "default_axes"};
using testing::kBound;
using testing::run;

inline std::filesystem::path folder_of(const std::string& name) {
  return testing::fixture("hunyuanvideo", name) / "transformer";
}

// Of the whole batch.
inline testing::Dump dump_of(const std::string& name) {
  return testing::Dump(testing::fixture("hunyuanvideo", name) / "dump.safetensors");
}

// One sample of it, whose stages have no padded rows.
struct Sample {
  const char* name;
  int index;
};
inline constexpr Sample kSamples[] = {{"picture", 0},      {"clip", 0},        {"clip", 1},
                                      {"odd_config", 0},   {"odd_config", 1},  {"odd_config", 2},
                                      {"default_axes", 0}, {"default_axes", 1}};

inline testing::Dump dump_of(const Sample& sample) {
  return testing::Dump(testing::fixture("hunyuanvideo", sample.name) /
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
  Inputs in{moved("latents"), moved("text"), dump["lengths"], moved("pooled"), dump["t"], {}, {}};
  if (dump.has("guidance")) in.guidance = dump["guidance"];
  in.rope = rope_table(config, grid_of(config, in.latents), in.text.size(1), target.device);
  return in;
}

}  // namespace sagelab::hunyuanvideo
