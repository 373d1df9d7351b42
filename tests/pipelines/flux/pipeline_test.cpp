// SPDX-License-Identifier: Apache-2.0
// Every stage of the pipeline against diffusers, on all fixtures and with and without true guidance.
#include "pipelines/flux/pipeline.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <tuple>

#include "attention/error.h"
#include "tests/pipelines/flux/pipeline_fixture.h"
#include "tests/support/pictures/encoders_in_turn.h"
#include "tests/support/pictures/parity.h"

namespace sagelab::flux {
namespace {

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
  EXPECT_EQ(tokenizers(texts.back()).clip.ids, row("clip_ids"));
  EXPECT_EQ(tokenizers(texts.back()).t5.ids, row("t5_ids"));
  EXPECT_EQ(tokenizers(texts.back()).t5.truncated, name == "dev");
  EXPECT_EQ(tokenizers(texts.back()).clip.truncated, name == "dev");
  if (!guided) return;
  EXPECT_EQ(tokenizers(texts.front()).clip.ids, row("negative.clip_ids"));
  EXPECT_EQ(tokenizers(texts.front()).t5.ids, row("negative.t5_ids"));
}

TEST_P(Parity, EveryStage) {
  const testing::Steps ours = testing::steps_of(family, request);
  expect_texts(ours.conditioning);
  testing::expect_steps(ours, dump, mode, *request.steps);
}

TEST_P(Parity, Decoding) {
  expect_decoding();
}

TEST_P(Parity, Picture) {
  expect_pixels_and_forwards(*request.steps * (guided ? 2 : 1));
}

TEST_P(Parity, PlanPredictsThePeaks) {
  const int unit = int(2 * Folder(request).vae.spatial_compression());
  testing::expect_peaks_small_and_large(family, request, unit);
}

TEST(FluxPipeline, EncodersAreLoadedInTurnWhereTheyAreFreed) {
  const Request request = kPipelines.resolved("dev", "guided");
  const Folder folder(request);
  const auto bytes = [&](const char* name) { return folder.components.bytes(name, resolve_target(request)); };
  testing::expect_encoders_in_turn<Flux>(request, {bytes("text_encoder"), bytes("text_encoder_2")});
}

// Freed once all is denoised; kept where another run follows, of which there is room for.
TEST(FluxPipeline, TheTransformerStaysForARunThatFollows) {
  count_cpu_tensors();
  Request request = kPipelines.resolved("schnell", "plain");
  request.offload = "encoders";
  OneRun run(request.attention);
  const auto peak_of_decoding = [&](std::vector<Request> next) {
    const auto pipeline = kPipelines.family().open(request, run.context);
    const int64_t before = tensor_bytes(at::kCPU);
    pipeline->expect(std::move(next));
    return generate(*pipeline, request, "", run.context).peak_by_phase.back().second - before;
  };
  const Folder folder(request);
  const int64_t bytes = folder.components.bytes("transformer", resolve_target(request));
  // Alone, the decoding begins while it is still there.
  EXPECT_GT(peak_of_decoding({request}) - peak_of_decoding({}), bytes / 2);
}

INSTANTIATE_TEST_SUITE_P(Flux, Parity, testing::every_mode(kPipelines), testing::name_and_mode);

TEST(FluxPipeline, NoiseIsDrawnInTheDtypeOfTheText) {
  for (const std::string name : kPipelines.names)
    testing::expect_bf16_noise(kPipelines.family(), kPipelines.request(name, "plain"), kPipelines.dump(name));
}

TEST(FluxPipeline, TakesDiffusersDefaults) {
  const Request r = kPipelines.defaults("dev");
  EXPECT_EQ(*r.height, 128 * 2);  // this VAE halves once
  EXPECT_EQ(*r.width, 128 * 2);
  EXPECT_EQ(*r.num_frames, 1);
  EXPECT_EQ(*r.steps, 28);
  EXPECT_EQ(*r.guidance_scale, 3.5);
  EXPECT_EQ(std::get<int64_t>(r.options.at("max_sequence_length")), 512);
  EXPECT_EQ(std::get<double>(r.options.at("true_cfg_scale")), 1);
  EXPECT_FALSE(is_guided(r));
}

TEST(FluxPipeline, ANegativePromptThatIsNotGivenIsAnEmptyOne) {
  testing::expect_an_empty_prompt_guides(kPipelines.family(), kPipelines.request("schnell", "plain"),
                                         kPipelines.dump("schnell"));
}

TEST(FluxPipeline, ANegativePromptWithoutEffectIsTold) {
  testing::expect_an_idle_negative_prompt_is_told(kPipelines.family(),
                                                  kPipelines.request("schnell", "plain"));
}

TEST(FluxPipeline, RefusesWhatItCannotMake) {
  const Request good = kPipelines.request("schnell", "plain");
  EXPECT_EQ(testing::refusal(kPipelines.family(), good), "");
  Request r = good;
  r.height = 44;
  EXPECT_EQ(testing::refusal(kPipelines.family(), r), "height is 44, not a multiple of 8; nearest: 40 or 48");
  r = good, r.width = 3;
  EXPECT_EQ(testing::refusal(kPipelines.family(), r), "width is 3, not a multiple of 8; nearest: 8");
  r = good, r.num_frames = 9;
  EXPECT_EQ(testing::refusal(kPipelines.family(), r),
            "num_frames is 9, and this model makes pictures; leave it out, or make it 1");
  r = good, r.options["max_sequence_length"] = int64_t(513);
  EXPECT_NE(testing::refusal(kPipelines.family(), r).find("max_sequence_length"), std::string::npos);
  r = good, r.options["use_dynamic_cfg"] = true;
  EXPECT_NE(testing::refusal(kPipelines.family(), r).find("use_dynamic_cfg"), std::string::npos);
  r = good, r.steps = 0;
  EXPECT_NE(testing::refusal(kPipelines.family(), r), "");
}

TEST(FluxPipeline, FitMovesSizesToWhatTheModelMakes) {
  testing::expect_fit(kPipelines.family(), kPipelines.request("schnell", "plain"), 8);
}

TEST(FluxPipeline, SameSeedSameBitsAndAnotherSeedAnother) {
  Request request = kPipelines.resolved("dev", "guided");
  request.steps = 2;
  testing::expect_bits_of_the_seed(kPipelines.family(), request);
}

TEST(FluxPipeline, PreviewIsAPictureOfTheLatents) {
  testing::expect_preview(kPipelines.family(), kPipelines.resolved("dev", "plain"), {1, 3, 18, 26});
}

TEST(FluxPipeline, SaysWhatIsCut) {
  EXPECT_EQ(testing::notices_of_encoding(kPipelines.family(), kPipelines.resolved("dev", "guided")),
            (std::vector<std::string>{"the prompt is cut at 64 tokens (max_sequence_length)",
                                      "CLIP reads the prompt up to its 77th token"}));
}

TEST(FluxPipeline, SaysWhatItHasNoRoomFor) {
  OneRun run;
  Request request = kPipelines.resolved("dev", "plain");
  request.offload = "encoders";
  const int64_t bytes = Folder(request).components.bytes("text_encoder", Target{});
  Flux pipeline(request, [&](at::Device) { return bytes - 1; });
  try {
    pipeline.encode(request, run.context);
    ADD_FAILURE() << "there was no room";
  } catch (const Error& e) {
    EXPECT_EQ(e.what(), fmt::format("out of memory: text_encoder takes {} in fp32 on cpu, and {} are free",
                                    human_bytes(bytes), human_bytes(bytes - 1)));
  }
}

TEST(FluxPipeline, ReadsTheReleasedNames) {
  testing::expect_released_names(kPipelines.family(), kPipelines.folder("names.json"));
}

}  // namespace
}  // namespace sagelab::flux
