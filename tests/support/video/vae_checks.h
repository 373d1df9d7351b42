// SPDX-License-Identifier: Apache-2.0
// More of what the tests of video autoencoders share: reports, refusals, the released checkpoint.
#pragma once

#include <functional>
#include <numeric>

#include "pipelines/run.h"
#include "tests/support/video/vae.h"

namespace sagelab::testing {

using TileReports = std::vector<std::pair<int64_t, int64_t>>;  // done, total

// What decoding reports through a field of the run. stop_at: the report that cancels it; 0: none does.
template <class Decoder, class Run>
TileReports reports_of(const Decoder& vae, const at::Tensor& z, Run run,
                       std::function<bool(int64_t, int64_t)> Run::*report, int64_t stop_at) {
  const c10::InferenceMode inference;
  TileReports seen;
  run.*report = [&](int64_t done, int64_t total) {
    seen.emplace_back(done, total);
    return done != stop_at;
  };
  bool cancelled = false;
  try {
    vae.decode(z, run);
  } catch (const Cancelled&) {
    cancelled = true;
  }
  EXPECT_EQ(cancelled, stop_at != 0);
  return seen;
}

template <class Decoder, class ModelConfig>
void expect_weights_of_another_model_refused(const VaeFixtures<Decoder, ModelConfig>& fixtures) {
  const Weights weights(open_folder(fixtures.folder("released") / "vae", kStem), {});
  EXPECT_THROW(Decoder(weights, fixtures.config("odd")), Error);
}

// Names, shapes and their sum as diffusers' own class has them.
template <class Decoder, class ModelConfig>
void expect_released_decoder(const VaeFixtures<Decoder, ModelConfig>& fixtures, int64_t parameters) {
  Config config(nlohmann::json::object(), "released");
  const Weights weights(shape_source(), {at::kMeta, at::kBFloat16});
  const Decoder vae(weights, ModelConfig(config));
  const auto ours = weights.requested();
  const std::map<std::string, std::vector<int64_t>> theirs = read_json(fixtures.folder("names.json"));
  EXPECT_EQ((std::map<std::string, std::vector<int64_t>>(ours.begin(), ours.end())), theirs);
  int64_t sum = 0;
  for (const auto& [key, shape] : ours)
    sum += std::accumulate(shape.begin(), shape.end(), int64_t(1), std::multiplies<>());
  EXPECT_EQ(sum, parameters);
}

}  // namespace sagelab::testing
