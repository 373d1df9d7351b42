// SPDX-License-Identifier: Apache-2.0
// Every stage of the pipeline against diffusers, on all fixtures, without guidance and with it.
#include "pipelines/mochi/pipeline.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "tests/pipelines/mochi/pipeline_fixture.h"
#include "tests/support/pictures/encoders_in_turn.h"
#include "tests/support/pictures/parity.h"

namespace sagelab::mochi {
namespace {

using ::testing::HasSubstr;
using testing::OneRun;
using testing::refusal;

class Parity : public testing::PipelineParity {
 protected:
  Parity() : PipelineParity(kPipelines) {}
};

TEST_P(Parity, Ids) {
  const Folder folder(request);
  EXPECT_EQ(folder.force_zeros_for_empty_prompt, name != "cut");
  const TextTokenizer tokenizer(folder);
  const auto texts = texts_of(request);
  ASSERT_EQ(texts.size(), guided ? 2u : 1u);
  for (const std::string prefix : {"", "negative."}) {
    if (!prefix.empty() && !guided) continue;
    Tokens tokens = tokenizer(prefix.empty() ? texts.back() : texts.front());
    EXPECT_EQ(tokens.truncated, prefix.empty() && name == "cut");
    tokens.ids.resize(size_t(tokens.length));
    EXPECT_EQ(tokens.ids, testing::integers_of(dump[prefix + "ids"]));
  }
}

TEST_P(Parity, EveryStage) {
  const testing::Steps ours = testing::steps_of(family, request);
  expect_texts(ours.conditioning);
  if (guided) {
    EXPECT_EQ(ours.conditioning.lengths[0].item<int64_t>() == 0, name == "empty");
  } else {
    EXPECT_TRUE(testing::matches(ours.first, dump, "plain.velocity", 1e-5));
  }
  testing::expect_steps(ours, dump, mode, *request.steps);
}

TEST_P(Parity, Decoding) {
  expect_decoding();
}

TEST_P(Parity, Frames) {
  expect_pixels_and_forwards(*request.steps * (guided ? 2 : 1));
}

TEST_P(Parity, PlanPredictsThePeaks) {
  testing::expect_peaks_small_and_large(family, request, int(Folder(request).units().side), 2);
}

INSTANTIATE_TEST_SUITE_P(Mochi, Parity, testing::every_mode(kPipelines), testing::name_and_mode);

// As the decoder itself does it, whose tiles are held to diffusers in its own tests.
TEST(MochiPipeline, SpaceIsCutWhereTheRequestSaysSo) {
  const c10::InferenceMode inference;
  Request request = kPipelines.resolved("picture", "plain");
  const Folder folder(request);
  request.height = 16 * 18, request.width = 32;  // beyond a tile's 256 rows
  const at::Tensor latents = at::randn(sizes_of(folder, request).latents());
  const auto vae = folder.components.load("vae", resolve_target(request), {},
                                          [&](const Weights& w) { return VaeDecoder(w, folder.vae); });
  const auto direct = [&](bool tiled) { return vae.decode(vae.unscale(latents), {.tiled = tiled}); };
  ASSERT_FALSE(at::allclose(direct(true), direct(false), 0, 1e-3));
  for (const auto& [word, tiled] : {std::pair{"on", true}, {"off", false}}) {
    request.vae_tiling = word;
    const at::Tensor frames = testing::decoded(kPipelines.family(), request, latents);
    const at::Tensor expected = direct(tiled);
    EXPECT_TRUE(at::equal(testing::as_dumped(frames, expected), expected)) << word;
  }
}

using testing::PipelineMutation;

TEST_P(PipelineMutation, EveryMutantFails) {
  expect_every_mutant_fails(kPipelines, testing::stages_of(kPipelines, name, testing::text_stages));
}

INSTANTIATE_TEST_SUITE_P(Mochi, PipelineMutation,
                         ::testing::Values(testing::LeastMutants{"empty", 30},
                                           testing::LeastMutants{"cut", 26},
                                           testing::LeastMutants{"picture", 30}),
                         testing::mutants_name);

// Drawn in fp32, and then rounded.
TEST(MochiPipeline, NoiseIsDrawnInFp32) {
  for (const std::string name : kPipelines.names)
    testing::expect_bf16_noise(kPipelines.family(), kPipelines.request(name, "plain"), kPipelines.dump(name));
}

TEST(MochiPipeline, TheScheduleIsLinearAndThenQuadratic) {
  const std::vector<double> sigmas = linear_quadratic_sigmas(64);
  ASSERT_EQ(sigmas.size(), 64u);
  for (const auto& [i, taken] : {std::pair{0, 0.0},
                                 {1, 0.00078125},
                                 {2, 0.0015625},
                                 {31, 0.02421875},
                                 {32, 0.025},
                                 {33, 0.02670898},
                                 {62, 0.88339844},
                                 {63, 0.94077148}})
    EXPECT_NEAR(1 - sigmas[size_t(i)], taken, 5e-9) << i;
}

TEST(MochiPipeline, TakesDiffusersDefaults) {
  const Request r = kPipelines.defaults("empty");
  EXPECT_EQ(*r.height, 480);
  EXPECT_EQ(*r.width, 848);
  EXPECT_EQ(*r.num_frames, 19);
  EXPECT_EQ(*r.steps, 64);
  EXPECT_EQ(*r.guidance_scale, 4.5);
  EXPECT_EQ(*r.fps, 30);
  EXPECT_EQ(std::get<int64_t>(r.options.at("max_sequence_length")), 256);
  EXPECT_TRUE(is_guided(r));
}

TEST(MochiPipeline, RefusesWhatItCannotMake) {
  const Request good = kPipelines.request("cut", "guided");
  const auto said = [&](const std::function<void(Request&)>& spoil) {
    return refusal(kPipelines.family(), good, spoil);
  };
  EXPECT_EQ(said([](Request&) {}), "");
  EXPECT_EQ(said([](Request& r) { r.height = 40; }), "height is 40, not a multiple of 16; nearest: 32 or 48");
  EXPECT_EQ(said([](Request& r) { r.width = 8; }), "width is 8, not a multiple of 16; nearest: 16");
  EXPECT_EQ(said([](Request& r) { r.num_frames = 12; }),
            "num_frames is 12, not of the form 6k + 1; nearest: 7 or 13");
  EXPECT_EQ(said([](Request& r) { r.steps = 1; }),
            "1 steps are not possible with this schedule; give 2 or more");
  EXPECT_THAT(said([](Request& r) { r.options["max_sequence_length"] = int64_t(0); }),
              HasSubstr("max_sequence_length"));
  EXPECT_THAT(said([](Request& r) { r.options["true_cfg_scale"] = 2.0; }), HasSubstr("true_cfg_scale"));
}

// model_index.json may leave it out, and holds nothing else that is no component.
TEST(MochiPipeline, ReadsWhatItsFolderSaysOfEmptyPrompts) {
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) / "mochi_force_zeros" / "model";
  std::filesystem::remove_all(folder.parent_path());
  std::filesystem::create_directories(folder.parent_path());
  std::filesystem::copy(kPipelines.folder("empty") / "model", folder,
                        std::filesystem::copy_options::recursive);
  const nlohmann::json index = read_json(folder / "model_index.json");
  Request request = kPipelines.request("empty", "guided");
  request.model = folder.string();
  const auto with = [&](const char* key, const nlohmann::json& value) {
    nlohmann::json changed = index;
    if (value.is_discarded())
      changed.erase(key);
    else
      changed[key] = value;
    std::ofstream(folder / "model_index.json") << changed;
  };
  constexpr const char* kKey = "force_zeros_for_empty_prompt";
  EXPECT_TRUE(Folder(request).force_zeros_for_empty_prompt);
  for (const auto& [value, expected] : {std::pair{nlohmann::json(true), true},
                                        {nlohmann::json(false), false},
                                        {nlohmann::json(nullptr), false},
                                        {nlohmann::json(nlohmann::json::value_t::discarded), false}}) {
    with(kKey, value);
    EXPECT_EQ(Folder(request).force_zeros_for_empty_prompt, expected);
  }
  with(kKey, 1);
  EXPECT_EQ(refusal(kPipelines.family(), request),
            (folder / "model_index.json").string() +
                ": force_zeros_for_empty_prompt = 1 should be true or false; ");
  with("is_distilled", true);
  EXPECT_THAT(refusal(kPipelines.family(), request), HasSubstr("unknown key is_distilled = true"));
}

TEST(MochiPipeline, FitMovesSizesToWhatTheModelMakes) {
  testing::expect_video_fit(kPipelines.family(), kPipelines.request("cut", "plain"));
}

TEST(MochiPipeline, SameSeedSameBitsAndAnotherSeedAnother) {
  Request request = kPipelines.resolved("cut", "guided");
  request.steps = 2;
  testing::expect_bits_of_the_seed(kPipelines.family(), request);
}

TEST(MochiPipeline, TheEncoderIsFreedWhereTheRequestSaysSo) {
  const Request request = kPipelines.resolved("cut", "guided");
  const int64_t bytes = Folder(request).components.bytes("text_encoder", resolve_target(request));
  testing::expect_encoders_in_turn<Mochi>(request, {bytes});
}

// Each side of the guidance is a forward of its own, and says so.
TEST(MochiPipeline, EverySideIsABranch) {
  const auto seen = testing::first_calls(kPipelines.family(), kPipelines.resolved("cut", "guided"));
  ASSERT_EQ(seen.size(), 6u);
  for (size_t i = 0; i < 6; ++i)
    EXPECT_EQ(seen[i].site.branch, i < 3 ? attention::Branch::Cond : attention::Branch::Uncond);
  EXPECT_EQ(seen[0].rows, (std::vector<int64_t>{24, 40}));
  EXPECT_EQ(seen[3].rows, (std::vector<int64_t>{24, 1}));
}

// A text that is none leaves the video alone.
TEST(MochiPipeline, OnlyAnEmptyTextThatIsForcedToZerosAsksForTheVideoAlone) {
  const auto shapes_of = [](const std::string& name, const std::string& mode) {
    std::vector<std::pair<int64_t, int64_t>> shapes;
    for (const auto& p : kPipelines.family().plan(kPipelines.resolved(name, mode)).problems)
      shapes.emplace_back(p.q_len, p.kv_len);
    return shapes;
  };
  const std::vector<std::pair<int64_t, int64_t>> empty = {{72, 72}, {12, 72}}, picture = {{76, 76}, {15, 76}},
                                                 cut = {{64, 64}, {24, 64}};
  auto alone = empty;
  alone.emplace_back(12, 12);
  EXPECT_EQ(shapes_of("empty", "guided"), alone);
  EXPECT_EQ(shapes_of("empty", "plain"), empty);
  EXPECT_EQ(shapes_of("picture", "guided"), picture);  // forced, and no text is empty
  EXPECT_EQ(shapes_of("cut", "guided"), cut);          // empty, and not forced
}

TEST(MochiPipeline, PreviewIsAPictureOfTheLatents) {
  testing::expect_preview(kPipelines.family(), kPipelines.resolved("cut", "plain"), {3, 3, 8, 4});
}

TEST(MochiPipeline, SaysWhatIsCut) {
  EXPECT_EQ(testing::notices_of_encoding(kPipelines.family(), kPipelines.resolved("cut", "guided")),
            (std::vector<std::string>{"the prompt is cut at 40 tokens (max_sequence_length)"}));
}

// A text encoder that nobody needs is not loaded.
TEST(MochiPipeline, NoTextLoadsNoEncoder) {
  Request request = kPipelines.request("empty", "plain");
  request.prompt = "";
  request = kPipelines.family().resolve(request);
  OneRun run;
  int loads = 0;
  run.context.progress = [&](decltype(Progress::what) what) {
    const auto* phase = std::get_if<Phase>(&what);
    loads += phase && phase->name == "load";
  };
  const c10::InferenceMode inference;
  const auto pipeline = kPipelines.family().open(request, run.context);
  const Conditioning c = pipeline->encode(request, run.context);
  EXPECT_EQ(loads, 0);
  EXPECT_EQ(c.embeds.sizes(), at::IntArrayRef({1, 0, 64}));
  EXPECT_EQ(c.lengths.item<int64_t>(), 0);
}

TEST(MochiPipeline, ReadsTheReleasedNames) {
  testing::expect_released_names(kPipelines.family(), kPipelines.folder("names.json"));
}

TEST(MochiPipeline, TheBenchIsTheReleasedModelAtItsLargestSize) {
  const BenchModel model = kPipelines.family().bench("1-preview", {at::kMeta, at::kBFloat16});
  EXPECT_EQ(model.latent_shape, (std::vector<int64_t>{1, 12, 28, 60, 106}));
  EXPECT_EQ(model.tokens, 44'776);
  EXPECT_NEAR(model.flops, 1667e12, 2e12);
  EXPECT_THROW(kPipelines.family().bench("2", {at::kMeta, at::kBFloat16}), Error);
}

}  // namespace
}  // namespace sagelab::mochi
