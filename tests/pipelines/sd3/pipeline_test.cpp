// SPDX-License-Identifier: Apache-2.0
// Every stage of the pipeline against diffusers, on all fixtures: without guidance, with it, and with
// skip-layer guidance.
#include "pipelines/sd3/pipeline.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/pipelines/sd3/pipeline_fixture.h"
#include "tests/support/pictures/encoders_in_turn.h"
#include "tests/support/pictures/parity.h"

namespace sagelab::sd3 {
namespace {

using testing::Dump;
using ::testing::HasSubstr;
using testing::OneRun;
using testing::refusal;

class Parity : public testing::PipelineParity {
 protected:
  Parity() : PipelineParity(kPipelines) {}
};

TEST_P(Parity, Ids) {
  const Folder folder(request);
  const Tokenizers tokenizers(folder);
  const auto row = [&](const std::string& key) { return testing::integers_of(dump[key]); };
  const auto texts = texts_of(request);
  ASSERT_EQ(texts.size(), guided ? 2u : 1u);
  for (const std::string prefix : {"", "negative."}) {
    if (!prefix.empty() && !guided) continue;
    const TextTokens tokens = tokenizers(prefix.empty() ? texts.back() : texts.front());
    EXPECT_EQ(tokens.clip_l.ids, row(prefix + "clip_l_ids"));
    EXPECT_EQ(tokens.clip_g.ids, row(prefix + "clip_g_ids"));
    EXPECT_EQ(tokens.clip_l.truncated, prefix.empty() && name == "large");
    ASSERT_EQ(tokens.t5.has_value(), name != "sd3");
    if (!tokens.t5) continue;
    EXPECT_EQ(tokens.t5->ids, row(prefix + "t5_ids"));
    EXPECT_EQ(tokens.t5->truncated, prefix.empty() && name == "large");
  }
}

TEST_P(Parity, EveryStage) {
  const testing::Steps ours = testing::steps_of(family, request);
  expect_texts(ours.conditioning);
  for (const auto& [key, rows] : text_stages(Folder(request), ours.conditioning)) {
    if (name == "sd3" && key.ends_with("t5")) {
      EXPECT_TRUE(rows.eq(0).all().item<bool>()) << key;
    } else {
      EXPECT_TRUE(testing::matches(rows, dump, key, 2e-6));
    }
  }
  if (!guided) {
    EXPECT_TRUE(testing::matches(ours.first, dump, "plain.velocity", 1e-5));
  }
  testing::expect_steps(ours, dump, mode, *request.steps);
}

TEST_P(Parity, Decoding) {
  expect_decoding();
}

TEST_P(Parity, Picture) {
  const int steps = *request.steps;
  const SkipGuidance skip = skip_guidance_of(Folder(request), request);
  int forwards = steps * (guided ? 2 : 1);
  for (int i = 0; i < steps; ++i) forwards += skip.at(i, steps);
  expect_pixels_and_forwards(forwards);
  EXPECT_EQ(forwards > 2 * steps, mode == "skipped");
}

TEST_P(Parity, PlanPredictsThePeaks) {
  testing::expect_peaks_small_and_large(family, request, int(Folder(request).unit()));
}

INSTANTIATE_TEST_SUITE_P(Sd3, Parity, testing::every_mode(kPipelines), testing::name_and_mode);

using testing::PipelineMutation;

TEST_P(PipelineMutation, EveryMutantFails) {
  const Folder folder(kPipelines.resolved(name, "plain"));
  const auto texts = [&](const Conditioning& c) { return text_stages(folder, c); };
  expect_every_mutant_fails(kPipelines, testing::stages_of(kPipelines, name, texts));
}

INSTANTIATE_TEST_SUITE_P(Sd3, PipelineMutation,
                         ::testing::Values(testing::LeastMutants{"sd3", 52},
                                           testing::LeastMutants{"large", 51},
                                           testing::LeastMutants{"medium", 68}),
                         testing::mutants_name);

TEST(Sd3Pipeline, WithoutT5ZerosStandForItsRows) {
  const c10::InferenceMode inference;
  for (const std::string name : {"large", "medium"}) {
    const Dump dump = kPipelines.dump(name);
    Request request = kPipelines.request(name, "guided");
    request.options["drop_t5"] = true;
    request = kPipelines.family().resolve(request);
    OneRun run;
    const Conditioning c = StableDiffusion3(request).encode(request, run.context);
    EXPECT_TRUE(testing::matches(c.embeds.slice(0, 1), dump, "dropped.embeds", 2e-6));
    EXPECT_TRUE(testing::matches(c.embeds.slice(0, 0, 1), dump, "negative.dropped.embeds", 2e-6));
    for (const auto& component : kPipelines.family().plan(request).components)
      EXPECT_NE(component.name, "text_encoder_3");
  }
}

TEST(Sd3Pipeline, NoiseIsDrawnInTheDtypeOfTheText) {
  for (const std::string name : kPipelines.names)
    testing::expect_bf16_noise(kPipelines.family(), kPipelines.request(name, "plain"), kPipelines.dump(name));
}

TEST(Sd3Pipeline, TakesDiffusersDefaults) {
  const Request r = kPipelines.defaults("sd3");
  EXPECT_EQ(*r.height, 20 * 4);
  EXPECT_EQ(*r.width, 20 * 4);
  EXPECT_EQ(*r.num_frames, 1);
  EXPECT_EQ(*r.steps, 28);
  EXPECT_EQ(*r.guidance_scale, 7);
  EXPECT_EQ(std::get<int64_t>(r.options.at("max_sequence_length")), 256);
  EXPECT_EQ(std::get<double>(r.options.at("skip_layer_guidance_scale")), 2.8);
  EXPECT_EQ(std::get<double>(r.options.at("skip_layer_guidance_start")), 0.01);
  EXPECT_EQ(std::get<double>(r.options.at("skip_layer_guidance_stop")), 0.2);
  EXPECT_TRUE(std::get<bool>(r.options.at("drop_t5"))) << "this folder has none";
  EXPECT_TRUE(is_guided(r));
  EXPECT_TRUE(skip_guidance_of(Folder(r), r).layers.empty());
}

TEST(Sd3Pipeline, RefusesWhatItCannotMake) {
  const Request good = kPipelines.request("large", "skipped");
  const auto said = [&](const std::function<void(Request&)>& spoil) {
    return refusal(kPipelines.family(), good, spoil);
  };
  EXPECT_EQ(said([](Request&) {}), "");
  EXPECT_EQ(said([](Request& r) { r.height = 34; }), "height is 34, not a multiple of 4; nearest: 32 or 36");
  EXPECT_EQ(said([](Request& r) { r.width = 292; }),
            "width is 292, and this model has positions for at most 288; ");
  EXPECT_EQ(said([](Request& r) { r.num_frames = 9; }),
            "num_frames is 9, and this model makes pictures; leave it out, or make it 1");
  EXPECT_EQ(said([](Request& r) { r.options["clip_skip"] = int64_t(2); }),
            "clip_skip is 2, and this model's text encoders can skip at most 1; ");
  EXPECT_EQ(said([](Request& r) { r.options["skip_guidance_layers"] = std::string("1,3"); }),
            "skip_guidance_layers has 3, and this model has layers 0 to 2; ");
  for (const char* list : {"1;2", "1,,2", "1,", ",1", "all", "1 2"})
    EXPECT_THAT(said([&](Request& r) { r.options["skip_guidance_layers"] = std::string(list); }),
                HasSubstr("is no list of layers"));
  EXPECT_THAT(said([](Request& r) { r.options["max_sequence_length"] = int64_t(513); }),
              HasSubstr("max_sequence_length"));
  EXPECT_NE(said([](Request& r) { r.steps = 0; }), "");
}

TEST(Sd3Pipeline, FitMovesSizesToWhatTheModelMakes) {
  testing::expect_fit(kPipelines.family(), kPipelines.request("sd3", "plain"), 8);
}

TEST(Sd3Pipeline, SameSeedSameBitsAndAnotherSeedAnother) {
  Request request = kPipelines.resolved("medium", "skipped");
  request.steps = 3;
  testing::expect_bits_of_the_seed(kPipelines.family(), request);
}

// One loaded pipeline serves requests that read T5 and others that do not, known ahead or not.
TEST(Sd3Pipeline, RequestsWithAndWithoutT5TakeTurns) {
  const c10::InferenceMode inference;
  const Dump dump = kPipelines.dump("large");
  Request with = kPipelines.request("large", "plain"), without = with;
  without.options["drop_t5"] = true;
  with = kPipelines.family().resolve(with), without = kPipelines.family().resolve(without);
  for (const char* offload : {"none", "encoders"}) {
    with.offload = without.offload = offload;
    OneRun run;
    StableDiffusion3 pipeline(with);
    pipeline.expect({with});
    for (int turn = 0; turn < 2; ++turn) {
      EXPECT_TRUE(
          testing::matches(pipeline.encode(without, run.context).embeds, dump, "dropped.embeds", 2e-6));
      EXPECT_TRUE(testing::matches(pipeline.encode(with, run.context).embeds, dump, "embeds", 2e-6));
    }
  }
}

TEST(Sd3Pipeline, EncodersAreLoadedInTurnWhereTheyAreFreed) {
  const Request request = kPipelines.resolved("large", "guided");
  const Folder folder(request);
  const auto bytes = [&](const char* name) { return folder.components.bytes(name, resolve_target(request)); };
  testing::expect_encoders_in_turn<StableDiffusion3>(
      request, {bytes("text_encoder"), bytes("text_encoder_2"), bytes("text_encoder_3")});
}

TEST(Sd3Pipeline, PreviewIsAPictureOfTheLatents) {
  testing::expect_preview(kPipelines.family(), kPipelines.resolved("medium", "plain"), {1, 3, 22, 30});
}

TEST(Sd3Pipeline, SaysWhatIsCut) {
  EXPECT_EQ(testing::notices_of_encoding(kPipelines.family(), kPipelines.resolved("large", "guided")),
            (std::vector<std::string>{"the prompt is cut at 64 tokens (max_sequence_length)",
                                      "CLIP reads the prompt up to its 77th token"}));
}

TEST(Sd3Pipeline, ReadsTheReleasedNames) {
  testing::expect_released_names(kPipelines.family(), kPipelines.folder("names.json"));
}

}  // namespace
}  // namespace sagelab::sd3
