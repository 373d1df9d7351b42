// SPDX-License-Identifier: Apache-2.0
// bf16 on a GPU: how far each stage of a picture pipeline of ours is from diffusers' fp32 results, beside how
// far diffusers itself is when it runs in bf16 on the same GPU, with the same kernel of attention
// wherever it can serve (oracle/pictures_gpu.py): flash takes no mask, which diffusers has for padded texts.
#pragma once

#include <set>

#include "tests/support/pictures/fixtures.h"

namespace sagelab::testing {

struct HalfOnGpu {
  static constexpr double kAtMost = 1.1;  // of diffusers' own error

  std::string title, mode;
  const Dump& dump;
  nlohmann::json theirs;  // by stage
  std::set<std::string> judged;

  at::Tensor moved(const std::string& key) const { return dump[key].to(at::kCUDA, at::kBFloat16); }

  // Theirs in the form of ours.
  Conditioning moved(Conditioning c) const {
    const std::vector<std::string> sides =
        c.guided ? std::vector<std::string>{"negative.", ""} : std::vector<std::string>{""};
    std::vector<at::Tensor> pooled, embeds;
    for (const std::string& side : sides) {
      if (c.pooled.defined()) pooled.push_back(moved(side + "pooled"));
      embeds.push_back(moved(side + "embeds"));
      const int64_t lacking = c.embeds.size(1) - embeds.back().size(1);
      embeds.back() = at::constant_pad_nd(embeds.back(), {0, 0, 0, lacking});
    }
    if (c.pooled.defined()) c.pooled = at::cat(pooled);
    c.embeds = at::cat(embeds);
    return c;
  }

  void judge(const std::string& stage, const at::Tensor& ours, const at::Tensor& truth) {
    ASSERT_TRUE(theirs.contains(stage)) << stage << " was not measured";
    const double error = relative_l2(ours, truth), own = theirs.at(stage);
    fmt::print("{:18} {:10} ours {:.3e}  diffusers {:.3e}  ratio {:.3f}\n", title, stage, error, own,
               error / own);
    EXPECT_LE(error, kAtMost * own) << stage;
    judged.insert(stage);
  }

  // Every stage of a resolved request from the fp32 values before it, rounded.
  void expect_no_farther(const Family& family, const Request& request) {
    const c10::InferenceMode inference;
    OneRun run(request.attention);
    const auto pipeline = family.open(request, run.context);
    const Conditioning c = pipeline->encode(request, run.context);
    if (c.pooled.defined()) judge("pooled", c.pooled.narrow(0, c.guided, 1), dump["pooled"]);
    judge("embeds", rows_of(c, c.guided), dump["embeds"]);
    const auto state = pipeline->prepare(request, moved(c), run.context);
    state->latents = moved("noise");
    const attention::BackendPtr backend = run.context.attention->current();
    for (int i = 0; i < state->steps; ++i) {
      attention::Site site;
      site.step = i, site.steps = state->steps;
      pipeline->advance(*state, i, pipeline->predict(*state, i, Forward{*backend, run.recorder, site, {}}));
      const std::string stage = fmt::format("latents.{}", i);
      judge(stage, state->latents, dump[mode + "." + stage]);
      state->latents = moved(mode + "." + stage);  // a run of its own drifts as its first roundings fall
    }
    const auto& served = run.recorder.served().at(request.attention);
    EXPECT_EQ(served.fused, served.calls);
    const at::Tensor image =
        pipeline->decode(moved(fmt::format("{}.latents.{}", mode, state->steps - 1)), request, run.context);
    const at::Tensor& theirs_image = dump[mode + ".image"];
    judge("image", as_dumped(image, theirs_image), theirs_image);
    judge("pixels", pixels_of(to_picture(image)), dump[mode + ".pixels"]);
    for (const auto& [stage, unused] : theirs.items()) EXPECT_TRUE(judged.count(stage)) << stage;
  }
};

// A fixture, a mode, attention. Skipped, with the reason, where there is no GPU.
class Bf16OnGpu : public ::testing::TestWithParam<std::tuple<const char*, const char*, const char*>> {
 protected:
  void expect_no_farther(const PipelineFixtures& fixtures) const {
    if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
    const auto& [name, mode, spec] = GetParam();
    Request request = fixtures.request(name, mode);
    request.attention = spec, request.device = "cuda", request.dtype = "bf16";
    const Family& family = fixtures.family();
    const Dump dump = fixtures.dump(name);
    const nlohmann::json all = read_json(fixture(family.name + "_gpu", "errors.json"));
    const std::string kernel = request.attention.substr(5, request.attention.size() - 6);  // of sdpa(...)
    HalfOnGpu{fmt::format("{} {}", name, mode), mode, dump, all.at("errors").at(kernel).at(name).at(mode), {}}
        .expect_no_farther(family, family.resolve(request));
  }
};

inline auto every_mode_on_gpu(const PipelineFixtures& fixtures) {
  return ::testing::Combine(::testing::ValuesIn(fixtures.names), ::testing::ValuesIn(fixtures.modes),
                            ::testing::Values("sdpa(flash)", "sdpa(cudnn)"));
}

}  // namespace sagelab::testing
