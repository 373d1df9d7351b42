// SPDX-License-Identifier: Apache-2.0
// bf16 on a GPU: how far each stage of ours is from diffusers' fp32 results, beside how far diffusers itself
// is when it runs in bf16 on the same GPU (oracle/cogvideox/gpu.py). Skipped, with the reason, where there is
// no GPU.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/pipelines/cogvideox/fixture.h"

namespace sagelab::cogvideox {
namespace {

constexpr double kAtMost = 1.1;  // of diffusers' own error

class Bf16OnGpu : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
    const nlohmann::json all = read_json(testing::fixture("cogvideox_gpu", "errors.json"));
    theirs_ = all.at("errors").at(GetParam());
  }

  void judge(const std::string& stage, const at::Tensor& ours, const testing::Dump& dump) {
    ASSERT_TRUE(theirs_.contains(stage)) << stage << " was not measured";
    const double error = testing::relative_l2(ours, dump[stage]), own = theirs_.at(stage).at("half");
    fmt::print("{:10} {:24} ours {:.3e}  diffusers {:.3e}  ratio {:.3f}\n", GetParam(), stage, error, own,
               error / own);
    EXPECT_LE(error, kAtMost * own) << stage;
    judged_.insert(stage);
  }

  Request request() const {
    Request r = request_of(GetParam());
    r.device = "cuda", r.dtype = "bf16", r.attention = "sdpa(flash)";
    r.options["scheduler"] = std::string("ddim");
    return cogvideox_family().resolve(r);
  }

  nlohmann::json theirs_;
  std::set<std::string> judged_;
};

// Every stage from the fp32 input before it, rounded.
TEST_P(Bf16OnGpu, EveryStageIsNoFartherThanDiffusers) {
  const c10::InferenceMode inference;
  const testing::Dump dump(testing::fixture("cogvideox", GetParam()) / "dump.safetensors");
  const Request r = request();
  const Stages stages{r.model, dump, {at::kCUDA, at::kBFloat16}};
  OneRun run(r.attention);
  judge("prompt_embeds", stages.text(), dump);
  const auto block = [&](const std::string& name, const at::Tensor& value) {
    if (name.starts_with("block.")) judge("forward." + name, value, dump);
  };
  judge("forward.output", stages.forward(run.context, block), dump);

  CogVideoX pipeline(r);
  Conditioning conditioning;
  conditioning.guided = true;
  conditioning.embeds = at::cat({stages.moved("negative_prompt_embeds"), stages.moved("prompt_embeds")});
  const auto state = pipeline.prepare(r, conditioning, run.context);
  state->latents = stages.moved("noise");
  const auto latents = step_through(pipeline, *state, run.context);
  for (size_t i = 0; i < latents.size(); ++i)
    judge(fmt::format("ddim.guided.latents.{}", i), latents[i], dump);
  EXPECT_EQ(run.recorder.served().at("sdpa(flash)").fused, run.recorder.served().at("sdpa(flash)").calls);

  const at::Tensor video = stages.decode(false);
  judge("vae.sample", video, dump);
  judge("frames", pixels_of(to_picture(video[0].permute({1, 0, 2, 3}))), dump);
  for (const auto& [stage, unused] : theirs_.items()) EXPECT_TRUE(judged_.count(stage)) << stage;
}

INSTANTIATE_TEST_SUITE_P(Fixtures, Bf16OnGpu, ::testing::ValuesIn(kFixtureNames));

}  // namespace
}  // namespace sagelab::cogvideox
