// SPDX-License-Identifier: Apache-2.0
// bf16 on a GPU: how far each stage of ours is from diffusers' fp32 results, beside how far diffusers itself
// is when it runs in bf16 on the same GPU (oracle/flux/gpu.py). Skipped, with the reason, where there is no
// GPU.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>
#include <tuple>

#include "tests/pipelines/flux/pipeline_fixture.h"

namespace sagelab::flux {
namespace {

constexpr double kAtMost = 1.1;  // of diffusers' own error

class Bf16OnGpu : public ::testing::TestWithParam<std::tuple<const char*, const char*, const char*>> {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
    const auto& [name, mode, spec] = GetParam();
    name_ = name, mode_ = mode;
    theirs_ = read_json(testing::fixture("flux_gpu", "errors.json")).at("errors").at(name_).at(mode_);
    request_ = pipeline_request(name_, mode_);
    request_.device = "cuda", request_.dtype = "bf16", request_.attention = spec;
    request_ = flux_family().resolve(request_);
  }

  void judge(const std::string& stage, const at::Tensor& ours, const at::Tensor& truth) {
    ASSERT_TRUE(theirs_.contains(stage)) << stage << " was not measured";
    const double error = testing::relative_l2(ours, truth), own = theirs_.at(stage);
    fmt::print("{:8} {:7} {:12} ours {:.3e}  diffusers {:.3e}  ratio {:.3f}\n", name_, mode_, stage, error, own,
               error / own);
    EXPECT_LE(error, kAtMost * own) << stage;
    judged_.insert(stage);
  }

  std::string name_, mode_;
  nlohmann::json theirs_;
  Request request_;
  std::set<std::string> judged_;
};

// Every stage from the fp32 values before it, rounded.
TEST_P(Bf16OnGpu, EveryStageIsNoFartherThanDiffusers) {
  const c10::InferenceMode inference;
  const testing::Dump dump = pipeline_dump(name_);
  const auto moved = [&](const std::string& key) { return dump[key].to(at::kCUDA, at::kBFloat16); };
  const bool guided = mode_ == "guided";
  OneRun run(request_.attention);
  Flux pipeline(request_);
  Conditioning conditioning = pipeline.encode(request_, run.context);
  judge("pooled", conditioning.pooled.narrow(0, guided, 1), dump["pooled"]);
  judge("embeds", conditioning.embeds.narrow(0, guided, 1), dump["embeds"]);

  conditioning.pooled = guided ? at::cat({moved("negative.pooled"), moved("pooled")}) : moved("pooled");
  conditioning.embeds = guided ? at::cat({moved("negative.embeds"), moved("embeds")}) : moved("embeds");
  const auto state = pipeline.prepare(request_, conditioning, run.context);
  state->latents = moved("noise");
  const attention::BackendPtr backend = run.context.attention->current();
  for (int i = 0; i < state->steps; ++i) {
    attention::Site site;
    site.step = i, site.steps = state->steps;
    pipeline.advance(*state, i, pipeline.predict(*state, i, Forward{*backend, run.recorder, site, {}}));
    const std::string stage = fmt::format("latents.{}", i);
    judge(stage, state->latents, dump[mode_ + "." + stage]);
  }
  const auto& served = run.recorder.served().at(request_.attention);
  EXPECT_EQ(served.fused, served.calls);

  const at::Tensor image =
      pipeline.decode(moved(fmt::format("{}.latents.{}", mode_, state->steps - 1)), request_, run.context);
  judge("image", image, dump[mode_ + ".image"]);
  judge("pixels", pixels_of(to_picture(image)), dump[mode_ + ".pixels"]);
  for (const auto& [stage, unused] : theirs_.items()) EXPECT_TRUE(judged_.count(stage)) << stage;
}

INSTANTIATE_TEST_SUITE_P(Flux, Bf16OnGpu,
                         ::testing::Combine(::testing::ValuesIn(kPipelineNames), ::testing::ValuesIn(kModes),
                                            ::testing::Values("sdpa(flash)", "sdpa(cudnn)")));

}  // namespace
}  // namespace sagelab::flux
