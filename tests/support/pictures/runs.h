// SPDX-License-Identifier: Apache-2.0
// What the tests of picture pipelines share: a run with every stage, its picture and its peaks, mutants.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "attention/registry.h"
#include "pipelines/footprint.h"
#include "pipelines/image/flow_match_euler.h"
#include "pipelines/registry.h"
#include "tests/support/parity.h"

namespace sagelab::testing {

struct OneRun {
  explicit OneRun(const std::string& spec = "sdpa")
      : context{std::make_shared<attention::Selector>(attention::make_backend(spec)), recorder, {}, {}} {}
  attention::Recorder recorder;
  RunContext context;
};

// The latents after every step, from the prompt on; and what went before them.
struct Steps {
  Conditioning conditioning;
  at::Tensor noise, first;  // first: the prediction of step 0
  std::vector<double> timesteps;
  at::Tensor sigmas;
  std::vector<at::Tensor> latents;
};

inline Steps steps_of(const Family& family, const Request& request) {
  const c10::InferenceMode inference;
  OneRun run;
  const auto pipeline = family.open(request, run.context);
  Steps all;
  all.conditioning = pipeline->encode(request, run.context);
  const auto state = pipeline->prepare(request, all.conditioning, run.context);
  all.noise = state->latents;
  all.timesteps = state->sampler->timesteps();
  all.sigmas = static_cast<const FlowMatchEuler&>(*state->sampler).sigmas();
  const attention::BackendPtr backend = run.context.attention->current();
  for (int i = 0; i < state->steps; ++i) {
    attention::Site site;
    site.step = i;
    site.steps = state->steps;
    const at::Tensor prediction = pipeline->predict(*state, i, Forward{*backend, run.recorder, site, {}});
    if (i == 0) all.first = prediction;
    pipeline->advance(*state, i, prediction);
    all.latents.push_back(state->latents.clone());
  }
  return all;
}

inline at::Tensor decoded(const Family& family, const Request& request, const at::Tensor& latents) {
  const c10::InferenceMode inference;
  OneRun run;
  return family.open(request, run.context)->decode(latents, request, run.context);
}

// What one side is conditioned on, without padding where that is dropped.
inline at::Tensor rows_of(const Conditioning& c, int64_t side) {
  const at::Tensor rows = c.embeds.narrow(0, side, 1);
  return c.lengths.defined() ? rows.narrow(1, 0, c.lengths[side].item<int64_t>()) : rows;
}

// What the VAE gives, as the dump has it: a video is [1, 3, T, H, W] there.
inline at::Tensor as_dumped(const at::Tensor& frames, const at::Tensor& theirs) {
  return theirs.dim() == 5 ? frames.permute({1, 0, 2, 3}).unsqueeze(0) : frames;
}

inline std::vector<int64_t> integers_of(const at::Tensor& x) {  // int64, of any shape
  const at::Tensor flat = x.flatten();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

inline at::Tensor pixels_of(const Picture& picture) {  // uint8 [1, H, W, 3]
  return at::tensor(at::ArrayRef<uint8_t>(picture.pixels), at::kByte)
      .view({picture.frames, picture.height, picture.width, 3});
}

// What happens from the noise on, against the dumps "<mode>.": the schedule, the latents after every step.
inline void expect_steps(const Steps& ours, const Dump& dump, const std::string& mode, int steps) {
  EXPECT_TRUE(at::equal(ours.noise, dump["noise"])) << ours.noise.sizes();
  EXPECT_TRUE(matches(ours.sigmas, dump, mode + ".sigmas", 1e-7));
  EXPECT_TRUE(matches(at::tensor(ours.timesteps, at::kDouble), dump, mode + ".timesteps", 1e-7));
  ASSERT_EQ(ours.latents.size(), size_t(steps));
  for (size_t i = 0; i < ours.latents.size(); ++i)
    EXPECT_TRUE(matches(ours.latents[i], dump, fmt::format("{}.latents.{}", mode, i), 1e-5));
  EXPECT_FALSE(dump.has(fmt::format("{}.latents.{}", mode, ours.latents.size())));
}

// 8-bit values of a whole run: at least 99.9 % equal, none off by more than one. And its calls are the
// plan's.
inline void expect_picture(const Family& family, const Request& request, const at::Tensor& theirs) {
  OneRun run;
  const auto pipeline = family.open(request, run.context);
  const Result result = generate(*pipeline, request, "", run.context);
  const at::Tensor ours = pixels_of(*result.picture);
  ASSERT_EQ(ours.sizes(), theirs.sizes());
  const at::Tensor off = (ours.to(at::kInt) - theirs.to(at::kInt)).abs();
  EXPECT_LE(off.max().item<int>(), 1);
  EXPECT_LE(off.ne(0).to(at::kDouble).mean().item<double>(), 0.001);
  fmt::print("{} of {} values differ\n", off.ne(0).sum().item<int64_t>(), off.numel());
  int64_t calls = 0, planned = 0;
  for (const auto& [backend, count] : run.recorder.served()) calls += count.calls;
  const Plan plan = family.plan(request);
  for (const auto& call : plan.calls) planned += std::min(call.until, plan.steps) - call.from;
  EXPECT_EQ(calls, planned);
  EXPECT_EQ(plan.latent_shape, result.latents.sizes().vec());
}

}  // namespace sagelab::testing
