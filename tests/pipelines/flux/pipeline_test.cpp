// SPDX-License-Identifier: Apache-2.0
// Every stage of the pipeline against diffusers, on all fixtures and with and without true guidance.
#include "pipelines/flux/pipeline.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <limits>
#include <tuple>

#include "attention/error.h"
#include "pipelines/footprint.h"
#include "tests/pipelines/flux/pipeline_fixture.h"

namespace sagelab::flux {
namespace {

using testing::Dump;

class Parity : public ::testing::TestWithParam<std::tuple<const char*, const char*>> {
 protected:
  std::string name = std::get<0>(GetParam()), mode = std::get<1>(GetParam());
  Dump dump = pipeline_dump(name);
  Request request = flux_family().resolve(pipeline_request(name, mode));
  bool guided = mode == "guided";
};

TEST_P(Parity, Ids) {
  const Folder folder(request);
  const Tokenizers tokenizers(folder);
  const auto row = [&](const std::string& key) {
    const at::Tensor ids = dump[key].flatten();
    return std::vector<int64_t>(ids.data_ptr<int64_t>(), ids.data_ptr<int64_t>() + ids.numel());
  };
  const auto texts = texts_of(request);
  ASSERT_EQ(texts.size(), guided ? 2u : 1u);
  EXPECT_EQ(tokenizers(texts.back()).clip.ids, row("clip_ids"));
  EXPECT_EQ(tokenizers(texts.back()).t5.ids, row("t5_ids"));
  EXPECT_EQ(tokenizers(texts.back()).t5.truncated, name == "dev");
  EXPECT_EQ(tokenizers(texts.back()).clip.truncated, name == "dev");
  if (!guided) return;
  EXPECT_EQ(tokenizers(texts.front()).clip.ids, row("negative.clip_ids"));
  EXPECT_EQ(tokenizers(texts.front()).t5.ids, row("negative.t5_ids"));
}

TEST_P(Parity, EveryStage) {
  const Steps ours = steps_of(request);
  const auto text_row = [&](const at::Tensor& x, int64_t i) { return x.slice(0, i, i + 1); };
  const Conditioning& c = ours.conditioning;
  ASSERT_EQ(c.guided, guided);
  ASSERT_EQ(c.embeds.size(0), guided ? 2 : 1);
  EXPECT_TRUE(testing::matches(text_row(c.pooled, guided), dump, "pooled", 2e-6));
  EXPECT_TRUE(testing::matches(text_row(c.embeds, guided), dump, "embeds", 2e-6));
  if (guided) {
    EXPECT_TRUE(testing::matches(text_row(c.pooled, 0), dump, "negative.pooled", 2e-6));
    EXPECT_TRUE(testing::matches(text_row(c.embeds, 0), dump, "negative.embeds", 2e-6));
  }
  EXPECT_TRUE(at::equal(ours.noise, dump["noise"])) << ours.noise.sizes();
  EXPECT_TRUE(testing::matches(ours.sigmas, dump, mode + ".sigmas", 1e-7));
  EXPECT_TRUE(testing::matches(at::tensor(ours.timesteps, at::kDouble), dump, mode + ".timesteps", 1e-7));
  ASSERT_EQ(ours.latents.size(), size_t(*request.steps));
  for (size_t i = 0; i < ours.latents.size(); ++i)
    EXPECT_TRUE(testing::matches(ours.latents[i], dump, fmt::format("{}.latents.{}", mode, i), 1e-5));
  EXPECT_FALSE(dump.has(fmt::format("{}.latents.{}", mode, ours.latents.size())));
}

TEST_P(Parity, Decoding) {
  const auto& last = dump[fmt::format("{}.latents.{}", mode, *request.steps - 1)];
  EXPECT_TRUE(testing::matches(decoded(request, last), dump, mode + ".image", 5e-6));
}

// 8-bit values of the whole run: at least 99.9 % equal, none off by more than one.
TEST_P(Parity, Picture) {
  OneRun run;
  Flux pipeline(request);
  const Result result = generate(pipeline, request, "", run.context);
  const at::Tensor ours = pixels_of(*result.picture), theirs = dump[mode + ".pixels"];
  ASSERT_EQ(ours.sizes(), theirs.sizes());
  const at::Tensor off = (ours.to(at::kInt) - theirs.to(at::kInt)).abs();
  EXPECT_LE(off.max().item<int>(), 1);
  EXPECT_LE(off.ne(0).to(at::kDouble).mean().item<double>(), 0.001);
  fmt::print("{} {}: {} of {} values differ\n", name, mode, off.ne(0).sum().item<int64_t>(), off.numel());
  int64_t calls = 0;
  for (const auto& [backend, count] : run.recorder.served()) calls += count.calls;
  const Plan plan = flux_family().plan(request);
  EXPECT_EQ(calls, int64_t(plan.calls.size()) * plan.steps);
  EXPECT_EQ(plan.forwards, plan.steps * (guided ? 2 : 1));
  EXPECT_EQ(plan.latent_shape, result.latents.sizes().vec());
}

void expect_peaks(const Request& request) {
  OneRun run(request.attention);
  const Plan plan = flux_family().plan(request);
  const int64_t before = tensor_bytes(at::kCPU);
  Flux pipeline(request);
  const Result result = generate(pipeline, request, "", run.context);
  ASSERT_EQ(result.peak_by_phase.size(), plan.peak_by_phase.size());
  for (size_t i = 0; i < plan.peak_by_phase.size(); ++i) {
    const auto& [phase, bytes] = plan.peak_by_phase[i];
    const double used = double(result.peak_by_phase[i].second - before);
    EXPECT_EQ(phase, result.peak_by_phase[i].first);
    EXPECT_NEAR(double(bytes) / used, 1, 0.15)
        << phase << ", offload " << request.offload << ", " << request.attention << " in " << request.dtype
        << ": " << bytes << " for " << used;
  }
}

// Within 15 % of the tensors that a run then holds, phase by phase: small, and where attention weighs.
TEST_P(Parity, PlanPredictsThePeaks) {
  count_cpu_tensors();
  request.steps = 1;
  for (const char* offload : {"none", "encoders"}) {
    request.offload = offload;
    expect_peaks(request);
  }
  request.height = 16 * *request.height / 3;
  request.width = 16 * *request.width / 3;
  const int unit = int(2 * Folder(request).vae.spatial_compression());
  request.height = *request.height / unit * unit;
  request.width = *request.width / unit * unit;
  for (const char* spec : {"sdpa", "sage2", "sage2(qk=int4)"}) {
    request.attention = spec;
    if (!attention::make_backend(spec)
             ->unsupported(attention_problem(Folder(request), request, Target{}))
             .empty())
      continue;
    expect_peaks(request);
  }
}

INSTANTIATE_TEST_SUITE_P(Flux, Parity,
                         ::testing::Combine(::testing::ValuesIn(kPipelineNames), ::testing::ValuesIn(kModes)),
                         [](const auto& info) {
                           return fmt::format("{}_{}", std::get<0>(info.param), std::get<1>(info.param));
                         });

TEST(FluxPipeline, NoiseIsDrawnInTheDtypeOfTheText) {
  const c10::InferenceMode inference;
  for (const std::string name : kPipelineNames) {
    Request request = pipeline_request(name, "plain");
    request.dtype = "bf16";
    request = flux_family().resolve(request);
    OneRun run;
    Flux pipeline(request);
    const auto state = pipeline.prepare(request, pipeline.encode(request, run.context), run.context);
    EXPECT_EQ(state->latents.scalar_type(), at::kBFloat16);
    EXPECT_TRUE(at::equal(state->latents.to(at::kFloat), pipeline_dump(name)["plain.bf16.noise"]));
  }
}

TEST(FluxPipeline, TakesDiffusersDefaults) {
  Request request;
  request.model = (pipeline_fixture("dev") / "model").string();
  request.prompt = "a fox";
  request.device = "cpu";
  const Request r = flux_family().resolve(request);
  EXPECT_EQ(*r.height, 128 * 2);  // this VAE halves once
  EXPECT_EQ(*r.width, 128 * 2);
  EXPECT_EQ(*r.num_frames, 1);
  EXPECT_EQ(*r.steps, 28);
  EXPECT_EQ(*r.guidance_scale, 3.5);
  EXPECT_EQ(std::get<int64_t>(r.options.at("max_sequence_length")), 512);
  EXPECT_EQ(std::get<double>(r.options.at("true_cfg_scale")), 1);
  EXPECT_FALSE(is_guided(r));
}

std::string refusal(const Request& request) {
  try {
    flux_family().resolve(request);
  } catch (const Error& e) {
    return std::string(e.what()) + "; " + e.hint();
  }
  return {};
}

TEST(FluxPipeline, RefusesWhatItCannotMake) {
  const Request good = pipeline_request("schnell", "plain");
  EXPECT_EQ(refusal(good), "");
  Request r = good;
  r.height = 44;
  EXPECT_EQ(refusal(r), "height is 44, not a multiple of 8; nearest: 40 or 48");
  r = good, r.width = 3;
  EXPECT_EQ(refusal(r), "width is 3, not a multiple of 8; nearest: 8");
  r = good, r.num_frames = 9;
  EXPECT_EQ(refusal(r), "num_frames is 9, and this model makes pictures; leave it out, or make it 1");
  r = good, r.options["max_sequence_length"] = int64_t(513);
  EXPECT_NE(refusal(r).find("max_sequence_length"), std::string::npos);
  r = good, r.options["use_dynamic_cfg"] = true;
  EXPECT_NE(refusal(r).find("use_dynamic_cfg"), std::string::npos);
  r = good, r.steps = 0;
  EXPECT_NE(refusal(r), "");
}

TEST(FluxPipeline, FitMovesSizesToWhatTheModelMakes) {
  Request request = pipeline_request("schnell", "plain");
  request.height = 45, request.width = 2, request.num_frames = 49;
  const Request fitted = flux_family().fit(request);
  EXPECT_EQ(*fitted.height, 48);
  EXPECT_EQ(*fitted.width, 8);
  EXPECT_EQ(*fitted.num_frames, 1);
}

TEST(FluxPipeline, SameSeedSameBitsAndAnotherSeedAnother) {
  Request request = flux_family().resolve(pipeline_request("dev", "guided"));
  request.steps = 2;
  const at::Tensor a = steps_of(request).latents.back();
  request.offload = request.offload == "none" ? "encoders" : "none";
  EXPECT_TRUE(at::equal(a, steps_of(request).latents.back()));
  request.seed += 1;
  EXPECT_FALSE(at::equal(a, steps_of(request).latents.back()));
}

TEST(FluxPipeline, PreviewIsAPictureOfTheLatents) {
  const c10::InferenceMode inference;
  OneRun run;
  const Request request = flux_family().resolve(pipeline_request("dev", "plain"));
  Flux pipeline(request);
  const auto state = pipeline.prepare(request, pipeline.encode(request, run.context), run.context);
  const at::Tensor preview = pipeline.preview(*state);
  EXPECT_EQ(preview.sizes(), at::IntArrayRef({1, 3, 18, 26}));
  EXPECT_LE(preview.abs().max().item<float>(), 1);
  EXPECT_GT(preview.std().item<float>(), 0.2);
}

TEST(FluxPipeline, SaysWhatIsCut) {
  OneRun run;
  std::vector<std::string> notices;
  run.context.notices = &notices;
  const Request request = flux_family().resolve(pipeline_request("dev", "guided"));
  Flux(request).encode(request, run.context);
  EXPECT_EQ(notices, (std::vector<std::string>{"the prompt is cut at 64 tokens (max_sequence_length)",
                                               "CLIP reads the prompt up to its 77th token"}));
}

TEST(FluxPipeline, SaysWhatItHasNoRoomFor) {
  OneRun run;
  Request request = flux_family().resolve(pipeline_request("dev", "plain"));
  request.offload = "encoders";
  const Folder folder(request);
  const int64_t bytes = component_bytes(folder, "text_encoder", Target{});
  Flux pipeline(request, [&](at::Device) { return bytes - 1; });
  try {
    pipeline.encode(request, run.context);
    ADD_FAILURE() << "there was no room";
  } catch (const Error& e) {
    EXPECT_EQ(e.what(), fmt::format("out of memory: text_encoder takes {} in fp32 on cpu, and {} are free",
                                    human_bytes(bytes), human_bytes(bytes - 1)));
  }
}

// The released sizes: what we read is what diffusers and transformers hold.
TEST(FluxPipeline, FullSizeNames) {
  const nlohmann::json all = read_json(pipeline_fixture("names.json"));
  for (const char* variant : kPipelineNames) {
    for (const std::string& component : flux_family().components) {
      const auto& entry = all.at(variant).at(component);
      nlohmann::json ours = nlohmann::json::object();
      for (const auto& [key, shape] : flux_family().names(component, entry.at("config"))) ours[key] = shape;
      EXPECT_EQ(ours, entry.at("names")) << variant << " " << component;
    }
  }
}

}  // namespace
}  // namespace sagelab::flux
