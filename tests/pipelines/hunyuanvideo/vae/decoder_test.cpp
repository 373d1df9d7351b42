// SPDX-License-Identifier: Apache-2.0
#include "pipelines/hunyuanvideo/vae/decoder.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/support/video/vae_checks.h"

namespace sagelab::hunyuanvideo {
namespace {

using at::Tensor;

constexpr testing::VaeFixtures<VaeDecoder, VaeConfig> kFixtures{"hunyuanvideo_vae"};
const char* const kSizes[] = {"z", "one", "batch", "long", "seven", "wide", "tall", "both"};

class HunyuanVideoVae : public testing::VaeParity<VaeDecoder, VaeConfig, VaeRun> {
 protected:
  HunyuanVideoVae() : VaeParity(kFixtures) {}
  VaeRun way(const std::string& key) const override {
    VaeRun run;
    const nlohmann::json sizes = tile_sizes();
    if (!sizes.is_null()) {
      const auto size = [&](const char* what) {
        return sizes.at("tile_sample_" + std::string(what)).get<int64_t>();
      };
      run.sizes = {size("min_num_frames"),    size("min_height"),    size("min_width"),
                   size("stride_num_frames"), size("stride_height"), size("stride_width")};
    }
    run.tiled = key.ends_with(".tiled");
    run.framewise = !key.ends_with(".whole");
    return run;
  }
};

TEST_P(HunyuanVideoVae, MatchesDiffusersAtEveryStage) {
  const VaeDecoder vae = open();
  std::map<std::string, Tensor> seen;
  VaeRun run = way("z.sample");
  run.observe = [&](const std::string& stage, const Tensor& value) { seen[stage] = value; };
  vae.decode(theirs["z.z"], run);
  EXPECT_EQ(seen.size(), GetParam().stages);
  for (const auto& [stage, value] : seen)
    EXPECT_TRUE(testing::matches_within(value, theirs, stage, testing::kVaeBound)) << stage;
}

// One latent frame, tiles of time whose last gives nothing, batches; in tiles of space too, and in none.
TEST_P(HunyuanVideoVae, MatchesDiffusersInTilesAndAsAWhole) {
  const VaeDecoder vae = open();
  for (const std::string size : kSizes) {
    for (const char* kind : {".sample", ".tiled", ".whole"}) expect_theirs(vae, size + kind);
    const Tensor& z = theirs[size + ".z"];
    const TilePlan plan = tile_plan(vae.config(), way(size).sizes);
    const bool in_space = plan.cuts_space(z.size(3), z.size(4)), in_time = plan.cuts_time(z.size(2));
    EXPECT_EQ(in_space, size == "wide" || size == "tall" || size == "both") << size;
    EXPECT_EQ(at::equal(theirs[size + ".sample"], theirs[size + ".tiled"]), !in_space) << size;
    EXPECT_TRUE(in_time || (size != "long" && size != "seven")) << size;
    EXPECT_EQ(at::equal(theirs[size + ".sample"], theirs[size + ".whole"]), !in_time) << size;
  }
}

TEST_P(HunyuanVideoVae, UnscalesBitByBitInTheLatentsDtype) {
  expect_unscaled();
}

TEST_P(HunyuanVideoVae, EveryMutantIsToldApart) {
  expect_every_mutant_fails({"z.sample", "both.tiled", "long.sample"});
}

TEST_P(HunyuanVideoVae, HalfPrecisionIsAsNearToTheTruthAsDiffusers) {
  expect_half_precision_is_as_near();
}

TEST_P(HunyuanVideoVae, OnAGpuItIsAsNear) {
  expect_a_gpu_is_as_near();
}

INSTANTIATE_TEST_SUITE_P(HunyuanVideo, HunyuanVideoVae,
                         ::testing::Values(testing::VaeFixture{"released", 18, 70},
                                           testing::VaeFixture{"odd", 17, 60},
                                           testing::VaeFixture{"defaults", 18, 55}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(HunyuanVideoVaeDecoder, ReportsEveryTileAndStopsWhenToldTo) {
  const testing::Dump dump = kFixtures.dump("released");
  const VaeDecoder vae = kFixtures.open("released");
  using Calls = testing::TileReports;
  const auto calls = [&](const std::string& size, bool tiled, int64_t stop_at) {
    VaeRun run;
    run.tiled = tiled;
    run.sizes = {16, 64, 48, 12, 48, 32};
    return testing::reports_of(vae, dump[size + ".z"], run, &VaeRun::on_tile, stop_at);
  };
  EXPECT_EQ(calls("z", false, 0), (Calls{{1, 1}}));
  EXPECT_EQ(calls("batch", false, 0), (Calls{{1, 2}, {2, 2}}));
  EXPECT_EQ(calls("long", false, 0), (Calls{{1, 3}, {2, 3}, {3, 3}}));  // 9 latents: 5, 5, 3
  EXPECT_EQ(calls("seven", true, 0), (Calls{{1, 2}, {2, 2}}));  // 5, 4, and 1 that would give no frame
  EXPECT_EQ(calls("both", true, 0).size(), 12U);                // 2 of time x 2 x 3 of space
  EXPECT_EQ(calls("both", true, 2), (Calls{{1, 12}, {2, 12}}));
}

TEST(HunyuanVideoVaeDecoder, TileConstantsOfTheReleasedCheckpoint) {
  Config config(nlohmann::json::object(), "released");
  const TilePlan plan = tile_plan(VaeConfig(config), {});
  const auto constants = [](const TileAxis& a) {
    return std::vector<int64_t>{a.tile, a.stride, a.blend, a.keep, a.output(90)};
  };
  EXPECT_EQ(constants(plan.rows), (std::vector<int64_t>{32, 24, 64, 192, 720}));
  EXPECT_EQ(constants(plan.columns), constants(plan.rows));
  EXPECT_EQ(constants(plan.frames), (std::vector<int64_t>{4, 3, 4, 12, 360}));
  EXPECT_EQ(plan.count_time(33), 11);
  EXPECT_EQ(plan.count_time(7), 2);
  EXPECT_EQ(plan.count_time(1), 1);
}

TEST(HunyuanVideoVaeDecoder, RefusesLatentsOfAnotherShape) {
  const VaeDecoder vae = kFixtures.open("released");
  EXPECT_THROW(vae.decode(at::zeros({1, 16, 2, 4, 4})), c10::Error);
  EXPECT_THROW(vae.decode(at::zeros({6, 2, 4, 4})), c10::Error);
  EXPECT_THROW(vae.decode(at::zeros({0, 6, 2, 4, 4})), c10::Error);
}

TEST(HunyuanVideoVaeDecoder, RefusesWeightsOfAnotherModel) {
  testing::expect_weights_of_another_model_refused(kFixtures);
}

TEST(HunyuanVideoVaeDecoder, ReadsTheDecoderOfTheReleasedCheckpoint) {
  testing::expect_released_decoder(kFixtures, 146'136'339);
}

}  // namespace
}  // namespace sagelab::hunyuanvideo
