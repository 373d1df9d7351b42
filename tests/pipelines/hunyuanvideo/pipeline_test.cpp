// SPDX-License-Identifier: Apache-2.0
// Every stage of the pipeline against diffusers, on all fixtures, without true guidance and with it.
#include "pipelines/hunyuanvideo/pipeline.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <tuple>

#include "tests/pipelines/hunyuanvideo/pipeline_fixture.h"
#include "tests/support/encoders_in_turn.h"
#include "tests/support/joint_only.h"

namespace sagelab::hunyuanvideo {
namespace {

using testing::Dump;
using ::testing::HasSubstr;
using testing::integers_of;
using testing::OneRun;
using testing::refusal;
using testing::Steps;

class Parity : public ::testing::TestWithParam<std::tuple<const char*, const char*>> {
 protected:
  std::string name = std::get<0>(GetParam()), mode = std::get<1>(GetParam());
  Dump dump = pipeline_dump(name);
  Request request = hunyuanvideo_family().resolve(pipeline_request(name, mode));
  bool guided = mode == "guided";
};

TEST_P(Parity, Ids) {
  const Folder folder(request);
  const Tokenizers tokenizers(folder);
  const auto texts = texts_of(request);
  ASSERT_EQ(texts.size(), guided ? 2u : 1u);
  for (const std::string prefix : {"", "negative."}) {
    if (!prefix.empty() && !guided) continue;
    TextTokens tokens = tokenizers(prefix.empty() ? texts.back() : texts.front());
    EXPECT_EQ(tokens.clip.ids, integers_of(dump[prefix + "clip_ids"]));
    const bool cut = prefix.empty() && name == "cut";
    EXPECT_EQ(tokens.clip.truncated, cut);
    EXPECT_EQ(tokens.llama.truncated, cut);
    tokens.llama.ids.resize(size_t(tokens.llama.length));
    EXPECT_EQ(tokens.llama.ids, integers_of(dump[prefix + "ids"]));
    EXPECT_EQ(tokens.rows(), dump[prefix + "embeds"].size(1));
  }
}

TEST_P(Parity, EveryStage) {
  const Steps ours = testing::steps_of(hunyuanvideo_family(), request);
  const Conditioning& c = ours.conditioning;
  ASSERT_EQ(c.guided, guided);
  ASSERT_EQ(c.embeds.size(0), guided ? 2 : 1);
  EXPECT_TRUE(testing::matches(c.pooled.narrow(0, guided, 1), dump, "pooled", 2e-6));
  EXPECT_TRUE(testing::matches(rows_of(c, guided), dump, "embeds", 2e-6));
  if (guided) {
    EXPECT_TRUE(testing::matches(c.pooled.narrow(0, 0, 1), dump, "negative.pooled", 2e-6));
    EXPECT_TRUE(testing::matches(rows_of(c, 0), dump, "negative.embeds", 2e-6));
  } else {
    EXPECT_TRUE(testing::matches(ours.first, dump, "plain.velocity", 1e-5));
  }
  testing::expect_steps(ours, dump, mode, *request.steps);
}

TEST_P(Parity, Decoding) {
  const auto& last = dump[fmt::format("{}.latents.{}", mode, *request.steps - 1)];
  const at::Tensor frames = testing::decoded(hunyuanvideo_family(), request, last);
  EXPECT_EQ(frames.size(0), *request.num_frames);
  EXPECT_TRUE(testing::matches(video_of(frames), dump, mode + ".image", 5e-6));
}

TEST_P(Parity, Frames) {
  testing::expect_picture(hunyuanvideo_family(), request, dump[mode + ".pixels"]);
  const Plan plan = hunyuanvideo_family().plan(request);
  EXPECT_EQ(plan.forwards, plan.steps * (guided ? 2 : 1));
  EXPECT_EQ(plan.prompt_tokens, dump["embeds"].size(1));
}

TEST_P(Parity, PlanPredictsThePeaks) {
  testing::expect_peaks_small_and_large(hunyuanvideo_family(), request, int(Folder(request).units().side));
}

INSTANTIATE_TEST_SUITE_P(HunyuanVideo, Parity,
                         ::testing::Combine(::testing::ValuesIn(kPipelineNames), ::testing::ValuesIn(kModes)),
                         [](const auto& info) {
                           return fmt::format("{}_{}", std::get<0>(info.param), std::get<1>(info.param));
                         });

// What a forward of every step in bf16 is conditioned on, of pooled rows as diffusers has them: its timestep,
// of the latents' dtype, and its guidance.
std::map<std::string, at::Tensor> conditions_in_half(const std::string& name, const Dump& dump) {
  const c10::InferenceMode inference;
  Request request = pipeline_request(name, "plain");
  request.dtype = "bf16";
  request = hunyuanvideo_family().resolve(request);
  OneRun run;
  const auto pipeline = hunyuanvideo_family().open(request, run.context);
  Conditioning c = pipeline->encode(request, run.context);
  c.pooled = dump["pooled"].to(at::kBFloat16);
  const auto state = pipeline->prepare(request, c, run.context);
  const attention::BackendPtr backend = run.context.attention->current();
  std::map<std::string, at::Tensor> all;
  for (int i = 0; i < state->steps; ++i) {
    EXPECT_EQ(state->latents.scalar_type(), i == 0 ? at::kFloat : at::kBFloat16);
    const auto keep = [&](const std::string& stage, const at::Tensor& value) {
      if (stage == "temb") all[fmt::format("bf16.temb.{}", i)] = value.to(at::kFloat);
    };
    pipeline->advance(*state, i, pipeline->predict(*state, i, {*backend, run.recorder, {}, {}, keep}));
  }
  return all;
}

// A few bf16 roundings of the embedders: what a wrong dtype changes is 20 times as much.
constexpr double kHalfBound = 4e-3;

TEST(HunyuanVideoPipeline, TimestepsFollowTheLatentsDtype) {
  for (const std::string name : kPipelineNames) {
    const Dump dump = pipeline_dump(name);
    const auto ours = conditions_in_half(name, dump);
    EXPECT_GE(ours.size(), 4u);
    for (const auto& [stage, value] : ours) EXPECT_TRUE(testing::matches(value, dump, stage, kHalfBound));
  }
}

at::Tensor tiled_image(const std::string& name, const Dump& dump, const std::string& tiling) {
  Request request = pipeline_request(name, "plain");
  const int64_t scale = Folder(request).vae.spatial_compression;
  request = hunyuanvideo_family().resolve(request);
  request.num_frames = 1, request.vae_tiling = tiling;
  request.height = int(scale * dump["tiled.latents"].size(3));
  request.width = int(scale * dump["tiled.latents"].size(4));
  return video_of(testing::decoded(hunyuanvideo_family(), request, dump["tiled.latents"]));
}

TEST(HunyuanVideoPipeline, SpaceIsCutWhereTheRequestSaysSo) {
  for (const std::string name : kPipelineNames) {
    const Dump dump = pipeline_dump(name);
    EXPECT_TRUE(testing::matches(tiled_image(name, dump, "on"), dump, "tiled.image", 5e-6));
    EXPECT_FALSE(testing::matches(tiled_image(name, dump, "off"), dump, "tiled.image", 1e-3));
  }
}

// Ours of every stage, by the dump's keys.
std::map<std::string, at::Tensor> stages_of(const std::string& name, const Dump& dump) {
  std::map<std::string, at::Tensor> all = conditions_in_half(name, dump);
  all["tiled.image"] = tiled_image(name, dump, "on");
  for (const std::string mode : kModes) {
    const Request request = hunyuanvideo_family().resolve(pipeline_request(name, mode));
    const Steps steps = testing::steps_of(hunyuanvideo_family(), request);
    const Conditioning& c = steps.conditioning;
    const bool guided = mode == "guided";
    all["pooled"] = c.pooled.narrow(0, guided, 1), all["embeds"] = rows_of(c, guided);
    if (guided) all["negative.pooled"] = c.pooled.narrow(0, 0, 1), all["negative.embeds"] = rows_of(c, 0);
    for (auto& [stage, value] : testing::picture_stages(hunyuanvideo_family(), request, steps, dump, mode))
      all[stage] = stage.ends_with(".image") ? video_of(value) : value;
  }
  return all;
}

class PipelineMutation : public ::testing::TestWithParam<std::pair<const char*, size_t>> {};

TEST_P(PipelineMutation, EveryMutantFails) {
  const auto& [name, least] = GetParam();
  const Dump dump = pipeline_dump(name);
  const Dump mutants(pipeline_fixture(name) / "mutants.safetensors");
  EXPECT_GE(mutants.tensors().size(), least) << "a list that shrinks must be noticed";
  testing::expect_mutants_fail(stages_of(name, dump), dump, mutants, [](const std::string& stage) {
    return stage.starts_with("bf16") ? kHalfBound : testing::pipeline_bound(stage);
  });
}

INSTANTIATE_TEST_SUITE_P(HunyuanVideo, PipelineMutation,
                         ::testing::Values(std::pair{"clip", size_t(60)}, std::pair{"cut", size_t(51)},
                                           std::pair{"picture", size_t(59)}),
                         [](const auto& info) { return std::string(info.param.first); });

TEST(HunyuanVideoPipeline, NoiseStaysInFp32) {
  const c10::InferenceMode inference;
  for (const std::string name : kPipelineNames) {
    Request request = pipeline_request(name, "plain");
    request.dtype = "bf16";
    request = hunyuanvideo_family().resolve(request);
    OneRun run;
    const auto pipeline = hunyuanvideo_family().open(request, run.context);
    const auto state = pipeline->prepare(request, pipeline->encode(request, run.context), run.context);
    EXPECT_EQ(state->latents.scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(state->latents, pipeline_dump(name)["plain.bf16.noise"]));
  }
}

TEST(HunyuanVideoPipeline, TakesDiffusersDefaults) {
  Request request;
  request.model = (pipeline_fixture("picture") / "model").string();
  request.prompt = "a fox";
  request.device = "cpu";
  const Request r = hunyuanvideo_family().resolve(request);
  EXPECT_EQ(*r.height, 720);
  EXPECT_EQ(*r.width, 1280);
  EXPECT_EQ(*r.num_frames, 129);
  EXPECT_EQ(*r.steps, 50);
  EXPECT_EQ(*r.guidance_scale, 6);
  EXPECT_EQ(*r.fps, 24);
  EXPECT_EQ(std::get<int64_t>(r.options.at("max_sequence_length")), 256);
  EXPECT_EQ(std::get<double>(r.options.at("true_cfg_scale")), 1);
  EXPECT_FALSE(is_guided(r));
}

// A negative prompt alone does not.
TEST(HunyuanVideoPipeline, OnlyAScaleAboveOneGuides) {
  Request r = hunyuanvideo_family().resolve(pipeline_request("picture", "guided"));
  for (const auto& [scale, guided] : {std::pair{0.5, false}, {1.0, false}, {1.001, true}}) {
    r.options["true_cfg_scale"] = scale;
    EXPECT_EQ(is_guided(r), guided) << scale;
    EXPECT_EQ(texts_of(r).size(), guided ? 2u : 1u) << scale;
  }
}

TEST(HunyuanVideoPipeline, ANegativePromptThatIsNotGivenIsAnEmptyOne) {
  testing::expect_an_empty_prompt_guides(hunyuanvideo_family(), pipeline_request("cut", "plain"),
                                         pipeline_dump("cut"));
}

TEST(HunyuanVideoPipeline, RefusesWhatItCannotMake) {
  const Request good = pipeline_request("cut", "guided");
  const auto said = [&](const std::function<void(Request&)>& spoil) {
    Request r = good;
    spoil(r);
    return refusal(hunyuanvideo_family(), r);
  };
  EXPECT_EQ(said([](Request&) {}), "");
  // Patches of 8 pixels would do for this model; diffusers' pipeline takes multiples of 16 alone.
  EXPECT_EQ(said([](Request& r) { r.height = 40; }), "height is 40, not a multiple of 16; nearest: 32 or 48");
  EXPECT_EQ(said([](Request& r) { r.width = 8; }), "width is 8, not a multiple of 16; nearest: 16");
  EXPECT_EQ(said([](Request& r) { r.num_frames = 12; }),
            "num_frames is 12, not of the form 4k + 1; nearest: 9 or 13");
  EXPECT_NE(said([](Request& r) { r.steps = 0; }), "");
  for (const auto& [option, value] : {std::pair<const char*, OptionValue>{"max_sequence_length", int64_t(0)},
                                      {"true_cfg_scale", -1.0},
                                      {"prompt_2", std::string("unread in diffusers")},
                                      {"use_dynamic_cfg", true}})
    EXPECT_THAT(said([&](Request& r) { r.options[option] = value; }), HasSubstr(option));
}

TEST(HunyuanVideoPipeline, FitMovesSizesToWhatTheModelMakes) {
  Request request = pipeline_request("cut", "plain");
  request.height = 89, request.width = 2, request.num_frames = 50;
  const Request fitted = hunyuanvideo_family().fit(request);
  EXPECT_EQ(*fitted.height, 96);
  EXPECT_EQ(*fitted.width, 16);
  EXPECT_EQ(*fitted.num_frames, 49);
}

TEST(HunyuanVideoPipeline, SameSeedSameBitsAndAnotherSeedAnother) {
  Request request = hunyuanvideo_family().resolve(pipeline_request("cut", "guided"));
  request.steps = 2;
  testing::expect_bits_of_the_seed(hunyuanvideo_family(), request);
}

TEST(HunyuanVideoPipeline, EncodersAreLoadedInTurnWhereTheyAreFreed) {
  const Request request = hunyuanvideo_family().resolve(pipeline_request("clip", "guided"));
  const Folder folder(request);
  const auto bytes = [&](const char* name) { return folder.components.bytes(name, resolve_target(request)); };
  testing::expect_encoders_in_turn<HunyuanVideo>(request, {bytes("text_encoder_2"), bytes("text_encoder")});
}

// Each side of the guidance is a forward of its own, and says so; the refiner's calls are of the text alone.
TEST(HunyuanVideoPipeline, EverySideIsABranch) {
  const c10::InferenceMode inference;
  const Request request = hunyuanvideo_family().resolve(pipeline_request("cut", "guided"));
  const auto backend = std::make_shared<testing::JointOnly>();
  OneRun run;
  const auto pipeline = hunyuanvideo_family().open(request, run.context);
  const auto state = pipeline->prepare(request, pipeline->encode(request, run.context), run.context);
  attention::Site site;
  site.branch = attention::Branch::Both;
  pipeline->predict(*state, 0, Forward{*backend, run.recorder, site, {}});
  const std::vector<std::vector<int64_t>> positive = {{40}, {96, 40}, {96, 40}, {136}},
                                          negative = {{1}, {96, 1}, {96, 1}, {97}};
  ASSERT_EQ(backend->seen.size(), 8u);
  for (size_t i = 0; i < 8; ++i) {
    const auto& seen = backend->seen[i];
    EXPECT_EQ(seen.site.branch, i < 4 ? attention::Branch::Cond : attention::Branch::Uncond);
    EXPECT_EQ(seen.site.layer, int(i % 4));
    EXPECT_EQ(seen.rows, (i < 4 ? positive : negative)[i % 4]);
  }
  const auto problems = hunyuanvideo_family().plan(request).problems;
  ASSERT_EQ(problems.size(), 3u);  // the negative prompt is empty
  EXPECT_EQ(problems[0].q_len, 136);
  EXPECT_EQ(problems[1].q_len, 40);
  EXPECT_EQ(problems[2].q_len, 1);
  const Request plain = hunyuanvideo_family().resolve(pipeline_request("cut", "plain"));
  EXPECT_EQ(hunyuanvideo_family().plan(plain).problems.size(), 2u);
}

TEST(HunyuanVideoPipeline, PreviewIsAPictureOfTheLatents) {
  testing::expect_preview(hunyuanvideo_family(),
                          hunyuanvideo_family().resolve(pipeline_request("cut", "plain")), {3, 3, 16, 8});
}

TEST(HunyuanVideoPipeline, SaysWhatIsCut) {
  EXPECT_EQ(testing::notices_of_encoding(hunyuanvideo_family(),
                                         hunyuanvideo_family().resolve(pipeline_request("cut", "guided"))),
            (std::vector<std::string>{"the prompt is cut at 40 tokens (max_sequence_length)",
                                      "CLIP reads the prompt up to its 77th token"}));
}

TEST(HunyuanVideoPipeline, ReadsTheReleasedNames) {
  testing::expect_released_names(hunyuanvideo_family(), pipeline_fixture("names.json"));
}

}  // namespace
}  // namespace sagelab::hunyuanvideo
