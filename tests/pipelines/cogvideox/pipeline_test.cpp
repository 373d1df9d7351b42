// SPDX-License-Identifier: Apache-2.0
// Every stage of the pipeline against diffusers, on all fixtures.
#include "pipelines/cogvideox/pipeline.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <limits>

#include "attention/error.h"
#include "pipelines/footprint.h"
#include "tests/pipelines/cogvideox/fixture.h"
#include "tests/support/pictures/checks.h"
#include "tests/support/pictures/encoders_in_turn.h"
#include "tests/support/pictures/habits.h"

namespace sagelab::cogvideox {
namespace {

using testing::Dump;

// Ours after every step, from the prompt on.
std::vector<at::Tensor> latents_by_step(Pipeline& pipeline, const Request& request) {
  const c10::InferenceMode inference;
  OneRun run;
  const auto state = pipeline.prepare(request, pipeline.encode(request, run.context), run.context);
  return step_through(pipeline, *state, run.context);
}

class Parity : public ::testing::TestWithParam<const char*> {
 protected:
  std::string name = GetParam();
  Dump dump{testing::fixture("cogvideox", name) / "dump.safetensors"};
  Request request = cogvideox_family().resolve(request_of(name));
};

TEST_P(Parity, Ids) {
  const auto tokenizer = open_t5_tokenizer(testing::fixture("cogvideox", name) / "model/tokenizer");
  const auto row = [&](const char* key) {
    const at::Tensor ids = dump[key].flatten();
    return std::vector<int64_t>(ids.data_ptr<int64_t>(), ids.data_ptr<int64_t>() + ids.numel());
  };
  EXPECT_EQ(tokenizer->encode(request.prompt, 226).ids, row("ids"));
  EXPECT_EQ(tokenizer->encode(request.negative_prompt, 226).ids, row("negative_ids"));
}

TEST_P(Parity, EveryBlockOfTheTextEncoder) {
  const c10::InferenceMode inference;
  int blocks = 0;
  const auto judge = [&](const std::string& block, const at::Tensor& value) {
    EXPECT_TRUE(testing::matches(value, dump, "t5." + block, 2e-6));
    ++blocks;
  };
  const at::Tensor out = Stages{request.model, dump}.text(judge);
  EXPECT_TRUE(testing::matches(out, dump, "prompt_embeds", 2e-6));
  EXPECT_TRUE(dump.has(fmt::format("t5.block.{}", blocks - 1)));
  EXPECT_FALSE(dump.has(fmt::format("t5.block.{}", blocks)));
}

TEST_P(Parity, ConditioningIsNegativeThenPositive) {
  const c10::InferenceMode inference;
  OneRun run;
  CogVideoX pipeline(request);
  const Conditioning c = pipeline.encode(request, run.context);
  ASSERT_TRUE(c.guided);
  EXPECT_TRUE(testing::matches(c.embeds.slice(0, 1, 2), dump, "prompt_embeds", 2e-6));
  EXPECT_TRUE(testing::matches(c.embeds.slice(0, 0, 1), dump, "negative_prompt_embeds",
                               testing::tolerance(dump, "prompt_embeds", 2e-6)));
  request.guidance_scale = 1;
  const Conditioning plain = pipeline.encode(request, run.context);
  EXPECT_FALSE(plain.guided);
  EXPECT_TRUE(testing::matches(plain.embeds, dump, "prompt_embeds", 2e-6));
}

TEST_P(Parity, NoiseIsBitEqual) {
  const c10::InferenceMode inference;
  OneRun run;
  CogVideoX pipeline(request);
  const auto state = pipeline.prepare(request, pipeline.encode(request, run.context), run.context);
  EXPECT_TRUE(at::equal(state->latents, dump["noise"])) << state->latents.sizes();
}

TEST_P(Parity, LatentsAfterEveryStep) {
  CogVideoX pipeline(request);
  for (const char* scheduler : {"ddim", "dpm"}) {
    for (const std::string mode : {"guided", "plain", "dynamic"}) {
      const Request r = in_mode(request, name, scheduler, mode);
      const auto ours = latents_by_step(pipeline, r);
      const std::string prefix = fmt::format("{}.{}.", scheduler, mode);
      // 61 steps with trailing spacing have 62 timesteps.
      ASSERT_EQ(ours.size(), size_t(*r.steps) + (mode == "dynamic" && name == "long_even"));
      EXPECT_FALSE(dump.has(fmt::format("{}latents.{}", prefix, ours.size())));
      for (size_t i = 0; i < ours.size(); ++i)
        EXPECT_TRUE(testing::matches(ours[i], dump, fmt::format("{}latents.{}", prefix, i), 1e-5));
      EXPECT_TRUE(testing::matches(ours.back(), dump, prefix + "final", 1e-5));
    }
  }
}

// 8-bit values of the whole run: at least 99.9 % equal, none off by more than one.
void expect_frames(const Result& result, const at::Tensor& theirs) {
  ASSERT_EQ(result.picture->frames, theirs.size(0));
  ASSERT_EQ(result.picture->height, theirs.size(1));
  ASSERT_EQ(result.picture->width, theirs.size(2));
  const at::Tensor off = (pixels_of(*result.picture).to(at::kInt) - theirs.to(at::kInt)).abs();
  EXPECT_LE(off.max().item<int>(), 1);
  EXPECT_LE(off.ne(0).to(at::kDouble).mean().item<double>(), 0.001);
}

// Through the pipeline's own decoding, as --vae-tiling says.
TEST_P(Parity, DecodingIsTiledWhereAskedFor) {
  const c10::InferenceMode inference;
  OneRun run;
  CogVideoX pipeline(request);
  for (const auto& [tiling, key] : {std::pair{"off", "vae.sample"}, {"on", "vae.tiled_sample"}}) {
    if (!dump.has(key)) continue;  // no larger than a tile
    request.vae_tiling = tiling;
    const at::Tensor video = pipeline.decode(dump["ddim.guided.final"], request, run.context);
    const at::Tensor theirs = dump[key][0].permute({1, 0, 2, 3});
    EXPECT_LE(testing::relative_l2(video, theirs), 5e-6) << key;
  }
  EXPECT_EQ(dump.has("vae.tiled_sample"), name == "5b" || name == "long_odd");
}

TEST_P(Parity, FinalFrames) {
  for (const std::string scheduler : {"ddim", "dpm"}) {
    OneRun run;
    CogVideoX pipeline(request);
    request.options["scheduler"] = scheduler;
    const Result result = generate(pipeline, request, "", run.context);
    EXPECT_TRUE(testing::matches(result.latents, dump, scheduler + ".guided.final", 1e-5));
    expect_frames(result, dump[scheduler == "ddim" ? "frames" : "frames.dpm"]);
    const auto served = run.recorder.served();
    int64_t calls = 0;
    for (const auto& [backend, count] : served) calls += count.calls;
    const Folder folder(request);
    EXPECT_EQ(calls, folder.transformer.layers * *request.steps);
  }
}

// Within 15 % of the tensors that a run then holds, phase by phase: at the fixture's own size, where LibTorch
// unfolds the inputs of small convolutions, and at one whose large convolutions are oneDNN's and whose
// attention weighs.
TEST_P(Parity, PlanPredictsThePeaks) {
  count_cpu_tensors();
  request.steps = 1;
  request.offload = "none";
  testing::expect_peaks(cogvideox_family(), request);
  request.offload = "encoders";
  request.height = 160;
  request.width = 12 * int(Folder(request).vae.spatial_compression());
  request.num_frames = 9;
  for (const char* spec : {"sdpa", "sage2", "sage2(qk=int4)"}) {
    request.attention = spec;
    testing::expect_peaks(cogvideox_family(), request);
  }
}

INSTANTIATE_TEST_SUITE_P(CogVideoX, Parity, ::testing::ValuesIn(kFixtureNames),
                         [](const auto& info) { return test_name(info.param); });

TEST(DynamicGuidance, FollowsTheFifthPower) {
  EXPECT_NEAR(dynamic_guidance(6, 50, 999), 2.2915, 5e-5);
  EXPECT_NEAR(dynamic_guidance(6, 50, 979), 2.5435, 5e-5);
  EXPECT_NEAR(dynamic_guidance(6, 50, 19), 1.1234, 5e-5);
}

TEST(CogVideoXPipeline, SameSeedSameBitsAndAnotherSeedAnother) {
  Request request = cogvideox_family().resolve(request_of("5b"));
  request.steps = 2;
  CogVideoX pipeline(request);
  const auto a = latents_by_step(pipeline, request).back(), b = latents_by_step(pipeline, request).back();
  EXPECT_TRUE(at::equal(a, b));
  request.seed += 1;
  EXPECT_FALSE(at::equal(a, latents_by_step(pipeline, request).back()));
}

TEST(CogVideoXPipeline, OffloadChangesNoBits) {
  Request request = cogvideox_family().resolve(request_of("5b"));
  request.steps = 2;
  request.offload = "none";
  CogVideoX keeping(request);
  const auto a = latents_by_step(keeping, request).back();
  request.offload = "encoders";
  CogVideoX freeing(request);
  EXPECT_TRUE(at::equal(a, latents_by_step(freeing, request).back()));
}

// Where memory is short, a component that is loaded stays for the next prompt: its own bytes are not free.
TEST(CogVideoXPipeline, OffloadKeepsTheTransformerForTheNextPrompt) {
  const c10::InferenceMode inference;
  Request request = cogvideox_family().resolve(request_of("2b"));
  request.offload = "encoders";
  const Folder folder(request);
  int64_t free = std::numeric_limits<int64_t>::max();
  CogVideoX pipeline(request, [&](at::Device) { return free; });
  OneRun run;
  int loads = 0;
  run.context.progress = [&](decltype(Progress::what) what) {
    const auto* phase = std::get_if<Phase>(&what);
    loads += phase && phase->name == "load" && phase->i == phase->n;
  };
  const Conditioning conditioning = pipeline.encode(request, run.context);
  pipeline.prepare(request, conditioning, run.context);
  EXPECT_EQ(loads, 2);
  free = folder.components.bytes("transformer", Target{}) - 1;
  pipeline.prepare(request, conditioning, run.context);
  EXPECT_EQ(loads, 2);
  request.prompt = "another";  // the text encoder fits beside it, and is loaded again
  free = folder.components.bytes("text_encoder", Target{});
  pipeline.prepare(request, pipeline.encode(request, run.context), run.context);
  EXPECT_EQ(loads, 3);
  free -= 1;
  request.prompt = "a third";
  try {
    pipeline.encode(request, run.context);
    ADD_FAILURE() << "there was no room";
  } catch (const Error& e) {
    EXPECT_EQ(e.what(), fmt::format("out of memory: text_encoder takes {} in fp32 on cpu, and {} are free",
                                    human_bytes(free + 1), human_bytes(free)));
    EXPECT_EQ(e.hint(), "use --dtype bf16, --offload encoders or a machine with more memory");
  }
}

TEST(CogVideoXPipeline, TheTextEncoderIsGoneWhereItIsFreed) {
  const Request request = cogvideox_family().resolve(request_of("2b"));
  const Folder folder(request);
  const int64_t bytes = folder.components.bytes("text_encoder", resolve_target(request));
  testing::expect_encoders_in_turn<CogVideoX>(request, {bytes});
}

TEST(CogVideoXPipeline, PreviewIsAPictureOfTheLatents) {
  for (const auto* scheduler : {"ddim", "dpm"}) {
    const Request request = in_mode(request_of("1.5"), "1.5", scheduler, "plain");
    testing::expect_preview(cogvideox_family(), cogvideox_family().resolve(request),
                            {3, 3, 6, 10});  // the padding frame is not shown
  }
}

TEST(CogVideoXPipeline, ANegativePromptWithoutEffectIsTold) {
  Request request = request_of("2b");
  request.guidance_scale = 1;
  testing::expect_an_idle_negative_prompt_is_told(cogvideox_family(), request);
}

TEST(CogVideoXPipeline, SaysThatALongPromptIsCut) {
  OneRun run;
  std::vector<std::string> notices;
  run.context.notices = &notices;
  Request request = request_of("2b");
  request.negative_prompt = "";
  for (int i = 0; i < 200; ++i) request.prompt += " winter landscape";
  request = cogvideox_family().resolve(request);
  CogVideoX(request).encode(request, run.context);
  EXPECT_EQ(notices, std::vector<std::string>{"the prompt is cut at 226 tokens (max_sequence_length)"});
}

}  // namespace
}  // namespace sagelab::cogvideox
