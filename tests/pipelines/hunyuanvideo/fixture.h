// SPDX-License-Identifier: Apache-2.0
// What the tests of the transformer share: a fixture's model, the inputs of its dumped call, and the call.
#pragma once

#include <ATen/ATen.h>

#include <string>

#include "pipelines/hunyuanvideo/transformer.h"
#include "tests/support/padded_texts.h"

namespace sagelab::hunyuanvideo {
inline constexpr const char* kFixtureNames[] = {"picture", "clip", "odd_config", "default_axes"};
using testing::kBound;
using testing::run;

using testing::Sample;

inline std::filesystem::path folder_of(const std::string& name) {
  return testing::transformer_folder("hunyuanvideo", name);
}
inline testing::Dump dump_of(const std::string& name) {
  return testing::batch_dump("hunyuanvideo", name);
}
inline testing::Dump dump_of(const Sample& sample) {
  return testing::sample_dump("hunyuanvideo", sample);
}
inline constexpr Sample kSamples[] = {{"picture", 0},      {"clip", 0},        {"clip", 1},
                                      {"odd_config", 0},   {"odd_config", 1},  {"odd_config", 2},
                                      {"default_axes", 0}, {"default_axes", 1}};

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
