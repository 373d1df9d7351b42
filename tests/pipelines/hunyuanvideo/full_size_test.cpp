// SPDX-License-Identifier: Apache-2.0
// What the released model at 129 frames of 1280 x 720 takes, of headers alone.
#include <gtest/gtest.h>

#include <map>

#include "tests/pipelines/hunyuanvideo/pipeline_fixture.h"

namespace sagelab::hunyuanvideo {
namespace {

// In bf16: of Llama 30 of 32 layers, the transformer, all rows of its forward.
constexpr double kLlama = 2 * 7'068'958'720.0, kTransformer = 2 * 12'821'012'544.0;
constexpr double kRows = 2 * 119'056 * 3072.0;

Request released(const std::string& offload) {
  Request r;
  r.model = testing::fixture("hunyuanvideo_full_size", "model").string();
  r.prompt = "a fox";
  r.dtype = "bf16";
  r.device = "cpu";
  r.vae_tiling = "on";
  r.offload = offload;
  return kPipelines.family().resolve(r);
}

std::map<std::string, double> peaks_of(const Request& request) {
  std::map<std::string, double> peaks;
  for (const auto& [phase, bytes] : peak_by_phase(Folder(request), request, 80'000'000'000))
    peaks[phase] = double(bytes);
  return peaks;
}

TEST(HunyuanVideoFullSize, ThePlanIsThatOfTheReleasedModel) {
  const Plan plan = kPipelines.family().plan(released("encoders"));
  EXPECT_EQ(plan.tokens, 119'056);
  EXPECT_EQ(plan.latent_shape, (std::vector<int64_t>{1, 16, 33, 90, 160}));
  EXPECT_NEAR(plan.flops_per_forward, 12069e12, 2e12);
  EXPECT_EQ(plan.forwards, 50);
  EXPECT_EQ(plan.layers, 62);
  EXPECT_EQ(plan.calls.size(), 62u);
  std::map<std::string, int64_t> parameters;
  for (const auto& component : plan.components) parameters[component.name] = component.parameters;
  EXPECT_EQ(parameters, (std::map<std::string, int64_t>{{"text_encoder", 7'505'186'816},
                                                        {"text_encoder_2", 123'060'480},
                                                        {"transformer", 12'821'012'544},
                                                        {"vae", 246'478'803}}));
}

TEST(HunyuanVideoFullSize, PeaksAreOfTheWeightsAndTheRows) {
  const auto freed = peaks_of(released("encoders"));
  EXPECT_NEAR(freed.at("encode"), kLlama, 0.1e9);
  EXPECT_GT(freed.at("denoise"), kTransformer + 11 * kRows);
  EXPECT_LT(freed.at("denoise"), kTransformer + 17 * kRows);
  EXPECT_EQ(freed.at("decode"), kTransformer) << "it is freed once the decoder is asked for";
  const auto kept = peaks_of(released("none"));
  EXPECT_NEAR(kept.at("denoise") - freed.at("denoise"), kLlama + 0.246e9, 0.01e9);
}

// Two double blocks, and what is no block: the refiner, embedders and projections.
TEST(HunyuanVideoFullSize, StreamedBlocksTakeTwoOfTheLargest) {
  const Components parts = Folder(released("encoders")).components;
  const double block = 2 * 36 * 3072.0 * 3072.0;
  EXPECT_EQ(double(parts.bytes("transformer", {at::kCPU, at::kBFloat16})), kTransformer);
  EXPECT_NEAR(double(parts.bytes("transformer", {at::kCPU, at::kBFloat16, true})), 2 * block + 0.7e9, 0.1e9);
}

}  // namespace
}  // namespace sagelab::hunyuanvideo
