// SPDX-License-Identifier: Apache-2.0
// bf16 on a GPU: how far each stage of ours is from diffusers' fp32 results, beside how far diffusers itself
// is when it runs in bf16 on the same GPU (oracle/cogvideox/gpu.py). Skipped, with the reason, where there is
// no GPU.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "attention/registry.h"
#include "pipelines/cogvideox/pipeline.h"
#include "pipelines/cogvideox/vae.h"
#include "pipelines/core/config.h"
#include "pipelines/registry.h"
#include "tests/support/parity.h"

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

  void judge(const std::string& stage, const at::Tensor& ours, const testing::Dump& dump) const {
    const double error = testing::relative_l2(ours, dump[stage]), own = theirs_.at(stage).at("half");
    fmt::print("{:10} {:24} ours {:.3e}  diffusers {:.3e}  ratio {:.3f}\n", GetParam(), stage, error, own,
               error / own);
    EXPECT_LE(error, kAtMost * own) << stage;
  }

  std::filesystem::path folder_ = testing::fixture("cogvideox", GetParam());
  nlohmann::json theirs_;
};

Request request_of(const std::filesystem::path& folder) {
  const nlohmann::json spec = read_json(folder / "request.json");
  Request r;
  r.model = (folder / "model").string();
  r.prompt = spec["prompt"];
  r.negative_prompt = spec["negative_prompt"];
  r.height = spec["height"].get<int>(), r.width = spec["width"].get<int>();
  r.num_frames = spec["num_frames"].get<int>(), r.steps = spec["steps"].get<int>();
  r.guidance_scale = spec["guidance_scale"].get<double>();
  r.device = "cuda", r.dtype = "bf16", r.vae_tiling = "off", r.attention = "sdpa(flash)";
  r.options["scheduler"] = std::string("ddim");
  return families().front().resolve(r);
}

TEST_P(Bf16OnGpu, LatentsAndFramesNoFartherThanDiffusers) {
  const c10::InferenceMode inference;
  const testing::Dump dump(folder_ / "dump.safetensors");
  const Request request = request_of(folder_);
  const auto rounded = [](const at::Tensor& x) { return x.to(at::kCUDA, at::kBFloat16); };
  attention::Recorder recorder;
  const RunContext run{
      std::make_shared<attention::Selector>(attention::make_backend(request.attention)), recorder, {}, {}};
  CogVideoX pipeline(request);
  Conditioning conditioning;
  conditioning.guided = true;
  conditioning.embeds = at::cat({rounded(dump["negative_prompt_embeds"]), rounded(dump["prompt_embeds"])});
  auto state = pipeline.prepare(request, conditioning, run);
  state->latents = rounded(dump["noise"]);
  for (int i = 0; i < state->steps; ++i) {
    attention::Site site;
    site.step = i, site.steps = state->steps;
    const attention::BackendPtr backend = run.attention->current();
    pipeline.advance(*state, i, pipeline.predict(*state, i, Forward{*backend, recorder, site, {}}));
    judge(fmt::format("ddim.guided.latents.{}", i), state->latents, dump);
  }
  EXPECT_EQ(recorder.served().at("sdpa(flash)").fused, recorder.served().at("sdpa(flash)").calls);

  Config config(folder_ / "model/vae/config.json");
  const Weights weights(open_folder(folder_ / "model/vae", "diffusion_pytorch_model"),
                        {at::kCUDA, at::kBFloat16});
  const VaeDecoder vae(weights, VaeConfig(config));
  const std::string_view ignored[] = {"encoder"};
  weights.require_all_read(ignored);
  judge("vae.sample", vae.decode(rounded(dump["vae.z"]), false), dump);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, Bf16OnGpu,
                         ::testing::Values("2b", "5b", "1.5", "long_even", "long_odd", "odd_config"));

}  // namespace
}  // namespace sagelab::cogvideox
