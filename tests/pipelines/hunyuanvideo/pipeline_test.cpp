// SPDX-License-Identifier: Apache-2.0
// Every stage of the pipeline against diffusers, on all fixtures, without true guidance and with it.
#include "pipelines/hunyuanvideo/pipeline.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/pipelines/hunyuanvideo/pipeline_fixture.h"
#include "tests/support/pictures/encoders_in_turn.h"
#include "tests/support/pictures/parity.h"

namespace sagelab::hunyuanvideo {
namespace {

using testing::Dump;
using ::testing::HasSubstr;
using testing::integers_of;
using testing::OneRun;
using testing::refusal;

class Parity : public testing::PipelineParity {
 protected:
  Parity() : PipelineParity(kPipelines) {}
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
  const testing::Steps ours = testing::steps_of(family, request);
  expect_texts(ours.conditioning);
  if (!guided) {
    EXPECT_TRUE(testing::matches(ours.first, dump, "plain.velocity", 1e-5));
  }
  testing::expect_steps(ours, dump, mode, *request.steps);
}

TEST_P(Parity, Decoding) {
  expect_decoding();
}

TEST_P(Parity, Frames) {
  expect_pixels_and_forwards(*request.steps * (guided ? 2 : 1));
  EXPECT_EQ(family.plan(request).prompt_tokens, dump["embeds"].size(1));
}

TEST_P(Parity, PlanPredictsThePeaks) {
  testing::expect_peaks_small_and_large(family, request, int(Folder(request).units().side));
}

INSTANTIATE_TEST_SUITE_P(HunyuanVideo, Parity, testing::every_mode(kPipelines), testing::name_and_mode);

// What a forward of every step in bf16 is conditioned on, of pooled rows as diffusers has them: its timestep,
// of the latents' dtype, and its guidance.
std::map<std::string, at::Tensor> conditions_in_half(const std::string& name, const Dump& dump) {
  const c10::InferenceMode inference;
  Request request = kPipelines.request(name, "plain");
  request.dtype = "bf16";
  request = kPipelines.family().resolve(request);
  OneRun run;
  const auto pipeline = kPipelines.family().open(request, run.context);
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
  for (const std::string name : kPipelines.names) {
    const Dump dump = kPipelines.dump(name);
    const auto ours = conditions_in_half(name, dump);
    EXPECT_GE(ours.size(), 4u);
    for (const auto& [stage, value] : ours) EXPECT_TRUE(testing::matches(value, dump, stage, kHalfBound));
  }
}

at::Tensor tiled_image(const std::string& name, const Dump& dump, const std::string& tiling) {
  Request request = kPipelines.request(name, "plain");
  const int64_t scale = Folder(request).vae.spatial_compression;
  request = kPipelines.family().resolve(request);
  request.num_frames = 1, request.vae_tiling = tiling;
  request.height = int(scale * dump["tiled.latents"].size(3));
  request.width = int(scale * dump["tiled.latents"].size(4));
  return testing::as_dumped(testing::decoded(kPipelines.family(), request, dump["tiled.latents"]),
                            dump["tiled.image"]);
}

TEST(HunyuanVideoPipeline, SpaceIsCutWhereTheRequestSaysSo) {
  for (const std::string name : kPipelines.names) {
    const Dump dump = kPipelines.dump(name);
    EXPECT_TRUE(testing::matches(tiled_image(name, dump, "on"), dump, "tiled.image", 5e-6));
    EXPECT_FALSE(testing::matches(tiled_image(name, dump, "off"), dump, "tiled.image", 1e-3));
  }
}

using testing::PipelineMutation;

TEST_P(PipelineMutation, EveryMutantFails) {
  auto ours = testing::stages_of(kPipelines, name, testing::text_stages);
  const Dump dump = kPipelines.dump(name);
  ours.merge(conditions_in_half(name, dump));
  ours["tiled.image"] = tiled_image(name, dump, "on");
  expect_every_mutant_fails(kPipelines, ours, [](const std::string& stage) {
    return stage.starts_with("bf16") ? kHalfBound : testing::pipeline_bound(stage);
  });
}

INSTANTIATE_TEST_SUITE_P(HunyuanVideo, PipelineMutation,
                         ::testing::Values(testing::LeastMutants{"clip", 60},
                                           testing::LeastMutants{"cut", 51},
                                           testing::LeastMutants{"picture", 59}),
                         testing::mutants_name);

TEST(HunyuanVideoPipeline, NoiseStaysInFp32) {
  for (const std::string name : kPipelines.names)
    testing::expect_bf16_noise(kPipelines.family(), kPipelines.request(name, "plain"), kPipelines.dump(name),
                               at::kFloat);
}

TEST(HunyuanVideoPipeline, TakesDiffusersDefaults) {
  const Request r = kPipelines.defaults("picture");
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
  Request r = kPipelines.resolved("picture", "guided");
  for (const auto& [scale, guided] : {std::pair{0.5, false}, {1.0, false}, {1.001, true}}) {
    r.options["true_cfg_scale"] = scale;
    EXPECT_EQ(is_guided(r), guided) << scale;
    EXPECT_EQ(texts_of(r).size(), guided ? 2u : 1u) << scale;
  }
}

TEST(HunyuanVideoPipeline, ANegativePromptThatIsNotGivenIsAnEmptyOne) {
  testing::expect_an_empty_prompt_guides(kPipelines.family(), kPipelines.request("cut", "plain"),
                                         kPipelines.dump("cut"));
}

TEST(HunyuanVideoPipeline, RefusesWhatItCannotMake) {
  const Request good = kPipelines.request("cut", "guided");
  const auto said = [&](const std::function<void(Request&)>& spoil) {
    return refusal(kPipelines.family(), good, spoil);
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
  testing::expect_video_fit(kPipelines.family(), kPipelines.request("cut", "plain"));
}

TEST(HunyuanVideoPipeline, SameSeedSameBitsAndAnotherSeedAnother) {
  Request request = kPipelines.resolved("cut", "guided");
  request.steps = 2;
  testing::expect_bits_of_the_seed(kPipelines.family(), request);
}

TEST(HunyuanVideoPipeline, EncodersAreLoadedInTurnWhereTheyAreFreed) {
  const Request request = kPipelines.resolved("clip", "guided");
  const Folder folder(request);
  const auto bytes = [&](const char* name) { return folder.components.bytes(name, resolve_target(request)); };
  testing::expect_encoders_in_turn<HunyuanVideo>(request, {bytes("text_encoder_2"), bytes("text_encoder")});
}

// Each side of the guidance is a forward of its own, and says so; the refiner's calls are of the text alone.
TEST(HunyuanVideoPipeline, EverySideIsABranch) {
  const Request request = kPipelines.resolved("cut", "guided");
  const auto all = testing::first_calls(kPipelines.family(), request);
  const std::vector<std::vector<int64_t>> positive = {{40}, {96, 40}, {96, 40}, {136}},
                                          negative = {{1}, {96, 1}, {96, 1}, {97}};
  ASSERT_EQ(all.size(), 8u);
  for (size_t i = 0; i < 8; ++i) {
    const auto& seen = all[i];
    EXPECT_EQ(seen.site.branch, i < 4 ? attention::Branch::Cond : attention::Branch::Uncond);
    EXPECT_EQ(seen.site.layer, int(i % 4));
    EXPECT_EQ(seen.rows, (i < 4 ? positive : negative)[i % 4]);
  }
  const auto problems = kPipelines.family().plan(request).problems;
  ASSERT_EQ(problems.size(), 3u);  // the negative prompt is empty
  EXPECT_EQ(problems[0].q_len, 136);
  EXPECT_EQ(problems[1].q_len, 40);
  EXPECT_EQ(problems[2].q_len, 1);
  const Request plain = kPipelines.resolved("cut", "plain");
  EXPECT_EQ(kPipelines.family().plan(plain).problems.size(), 2u);
}

TEST(HunyuanVideoPipeline, PreviewIsAPictureOfTheLatents) {
  testing::expect_preview(kPipelines.family(), kPipelines.resolved("cut", "plain"), {3, 3, 16, 8});
}

TEST(HunyuanVideoPipeline, SaysWhatIsCut) {
  EXPECT_EQ(testing::notices_of_encoding(kPipelines.family(), kPipelines.resolved("cut", "guided")),
            (std::vector<std::string>{"the prompt is cut at 40 tokens (max_sequence_length)",
                                      "CLIP reads the prompt up to its 77th token"}));
}

TEST(HunyuanVideoPipeline, ReadsTheReleasedNames) {
  testing::expect_released_names(kPipelines.family(), kPipelines.folder("names.json"));
}

}  // namespace
}  // namespace sagelab::hunyuanvideo
