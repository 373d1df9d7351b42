// SPDX-License-Identifier: Apache-2.0
// What every picture pipeline does beside its pictures: noise, seeds, previews, notices.
#pragma once

#include <algorithm>

#include "attention/error.h"
#include "tests/support/pictures/runs.h"

namespace sagelab::testing {

// Half-precision noise is no rounded fp32 noise; it may stay in fp32. request: unresolved.
inline void expect_bf16_noise(const Family& family, Request request, const Dump& dump,
                              at::ScalarType dtype = at::kBFloat16) {
  const c10::InferenceMode inference;
  request.dtype = "bf16";
  request = family.resolve(request);
  OneRun run;
  const auto pipeline = family.open(request, run.context);
  const auto state = pipeline->prepare(request, pipeline->encode(request, run.context), run.context);
  EXPECT_EQ(state->latents.scalar_type(), dtype);
  EXPECT_TRUE(at::equal(state->latents.to(at::kFloat), dump["plain.bf16.noise"]));
}

// Wherever the encoders stay meanwhile.
inline void expect_bits_of_the_seed(const Family& family, Request request) {
  const at::Tensor a = steps_of(family, request).latents.back();
  request.offload = request.offload == "none" ? "encoders" : "none";
  EXPECT_TRUE(at::equal(a, steps_of(family, request).latents.back()));
  request.seed += 1;
  EXPECT_FALSE(at::equal(a, steps_of(family, request).latents.back()));
}

// Of the noise, of so many values [T, 3, H, W]; and of every step of a run, the last of its finished latents.
inline void expect_preview(const Family& family, Request request, at::IntArrayRef sizes) {
  const c10::InferenceMode inference;
  request.preview = 1;
  OneRun run;
  const auto pipeline = family.open(request, run.context);
  const auto state = pipeline->prepare(request, pipeline->encode(request, run.context), run.context);
  const at::Tensor preview = pipeline->preview(*state, state->latents);
  EXPECT_EQ(preview.sizes(), sizes);
  EXPECT_LE(preview.abs().max().item<float>(), 1);
  EXPECT_GT(preview.std().item<float>(), 0.2);
  std::vector<std::shared_ptr<const Picture>> seen;
  run.context.progress = [&](decltype(Progress::what) what) {
    if (const auto* step = std::get_if<Step>(&what)) seen.push_back(step->preview);
  };
  const Result result = generate(*pipeline, request, "", run.context);
  ASSERT_EQ(seen.size(), size_t(state->steps));
  ASSERT_EQ(std::count(seen.begin(), seen.end(), nullptr), 0);
  const at::Tensor last = pixels_of(to_picture(pipeline->preview(*state, result.latents))).to(at::kInt);
  EXPECT_LE((pixels_of(*seen.back()).to(at::kInt) - last).abs().max().item<int>(), 1);
  EXPECT_GT((pixels_of(*seen.front()).to(at::kInt) - last).abs().max().item<int>(), 1);
}

// A scale alone guides, by an empty prompt; diffusers would not guide then. request: unresolved; dump: of one
// whose negative prompt is given, and empty.
inline void expect_an_empty_prompt_guides(const Family& family, Request request, const Dump& dump) {
  const c10::InferenceMode inference;
  request.options["true_cfg_scale"] = 2.0;
  request = family.resolve(request);
  EXPECT_EQ(family.plan(request).forwards, 2 * *request.steps);
  OneRun run;
  const Conditioning c = family.open(request, run.context)->encode(request, run.context);
  ASSERT_TRUE(c.guided);
  EXPECT_TRUE(matches(c.pooled.narrow(0, 0, 1), dump, "negative.pooled", 2e-6));
  EXPECT_TRUE(matches(rows_of(c, 0), dump, "negative.embeds", 2e-6));
}

inline std::vector<std::string> notices_of_encoding(const Family& family, const Request& request) {
  OneRun run;
  std::vector<std::string> notices;
  run.context.notices = &notices;
  family.open(request, run.context)->encode(request, run.context);
  return notices;
}

// request: unresolved, of a mode that nothing guides.
inline void expect_an_idle_negative_prompt_is_told(const Family& family, Request request) {
  const c10::InferenceMode inference;
  for (const std::string negative : {"", "blurry"}) {
    request.negative_prompt = negative;
    const Request resolved = family.resolve(request);
    OneRun run;
    std::vector<std::string> notices;
    run.context.notices = &notices;
    const auto pipeline = family.open(resolved, run.context);
    pipeline->prepare(resolved, pipeline->encode(resolved, run.context), run.context);
    const auto told = std::count(notices.begin(), notices.end(),
                                 "the negative prompt has no effect: at this scale nothing is guided by it");
    EXPECT_EQ(told, negative.empty() ? 0 : 1);
  }
}

// Moves sizes to what a model with such a unit makes.
inline void expect_fit(const Family& family, Request request, int unit) {
  request.height = 5 * unit + unit / 2 + 1, request.width = 2, request.num_frames = 49;
  const Request fitted = family.fit(request);
  EXPECT_EQ(*fitted.height, 6 * unit);
  EXPECT_EQ(*fitted.width, unit);
  EXPECT_EQ(*fitted.num_frames, 1);
}

// What resolving a request is refused with; empty where it is not.
inline std::string refusal(const Family& family, const Request& request) {
  try {
    family.resolve(request);
  } catch (const Error& e) {
    return std::string(e.what()) + "; " + e.hint();
  }
  return {};
}
inline std::string refusal(const Family& family, Request request,
                           const std::function<void(Request&)>& spoil) {
  spoil(request);
  return refusal(family, request);
}

}  // namespace sagelab::testing
