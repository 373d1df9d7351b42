// SPDX-License-Identifier: Apache-2.0
// `bench vae`: a whole run's latents decoded with random weights, timed, and its memory beside what is
// foretold.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pipelines/registry.h"

namespace sagelab {

struct VaeRow {
  bool tiled = false;
  double median = 0, min = 0, max = 0;       // seconds
  int64_t held = 0, peak = 0, foretold = 0;  // bytes of tensors: before decoding, and inside it beside those
  std::vector<int64_t> frames;               // the shape of what comes out
};

struct VaeSettings {
  bool tiled = false;
  at::Device device = at::kCPU;
  int warmup = 1, repeat = 2;  // decodings
};
// Throws sagelab::Error where a value that comes out is not finite.
VaeRow bench_vae(const BenchVae& vae, const VaeSettings& settings);

nlohmann::json vae_json(const BenchVae& vae, const std::vector<VaeRow>& rows);
std::string vae_table(const BenchVae& vae, const std::vector<VaeRow>& rows);

}  // namespace sagelab
