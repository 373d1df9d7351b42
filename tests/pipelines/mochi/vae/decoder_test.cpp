// SPDX-License-Identifier: Apache-2.0
#include "pipelines/mochi/vae/decoder.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/support/video/vae_checks.h"

namespace sagelab::mochi {
namespace {

using at::Tensor;

constexpr testing::VaeFixtures<VaeDecoder, VaeConfig> kFixtures{"mochi_vae"};
const char* const kSizes[] = {"z", "one", "batch", "wide", "tall", "both"};

class MochiVae : public testing::VaeParity<VaeDecoder, VaeConfig, VaeRun> {
 protected:
  MochiVae() : VaeParity(kFixtures) {}
  VaeRun way(const std::string& key) const override {
    VaeRun run;
    const nlohmann::json sizes = tile_sizes();
    if (!sizes.is_null()) {
      const auto size = [&](const char* what) {
        return sizes.at("tile_sample_" + std::string(what)).get<int64_t>();
      };
      run.tile_sizes = {size("min_height"), size("min_width"), size("stride_height"), size("stride_width")};
    }
    run.tiled = key.ends_with(".tiled");
    run.drop_last_temporal_frames = !key.ends_with(".kept");
    return run;
  }
};

TEST_P(MochiVae, MatchesDiffusersAtEveryStage) {
  const VaeDecoder vae = open();
  std::map<std::string, std::vector<Tensor>> seen;
  VaeRun run = way("z.sample");
  run.observe = [&](const std::string& stage, const Tensor& value) { seen[stage].push_back(value.clone()); };
  vae.decode(theirs["z.z"], run);
  EXPECT_EQ(seen.size(), GetParam().stages);
  for (const auto& [stage, chunks] : seen) {
    EXPECT_EQ(chunks.size(), (theirs["z.z"].size(2) + 1) / 2) << stage;
    EXPECT_TRUE(testing::matches_within(at::cat(chunks, 2), theirs, stage, testing::kVaeBound)) << stage;
  }
}

// One latent frame, odd and even counts, batches; in tiles and as a whole.
TEST_P(MochiVae, MatchesDiffusersInTilesAndAsAWhole) {
  const VaeDecoder vae = open();
  for (const std::string size : kSizes) {
    for (const char* kind : {".sample", ".tiled"}) expect_theirs(vae, size + kind);
    const Tensor& z = theirs[size + ".z"];
    const bool cut = needs_tiles(tile_plan(vae.config(), way(size).tile_sizes), z.size(3), z.size(4));
    EXPECT_TRUE(cut || size == "z" || size == "one" || size == "batch");
    EXPECT_EQ(at::equal(theirs[size + ".sample"], theirs[size + ".tiled"]), !cut) << size;
  }
}

TEST_P(MochiVae, KeepsEveryFrameWhereToldTo) {
  const VaeDecoder vae = open();
  for (const std::string size : {"z", "both"}) {
    const Tensor ours = vae.decode(theirs[size + ".z"], way(size + ".kept"));
    EXPECT_EQ(ours.size(2), theirs[size + ".z"].size(2) * vae.config().temporal_compression());
    EXPECT_TRUE(testing::matches_within(ours, theirs, size + ".kept", testing::kVaeBound));
  }
}

TEST_P(MochiVae, UnscalesBitByBitInTheLatentsDtype) {
  expect_unscaled();
}

TEST_P(MochiVae, EveryMutantIsToldApart) {
  expect_every_mutant_fails({"z.sample", "both.tiled"});
}

TEST_P(MochiVae, HalfPrecisionIsAsNearToTheTruthAsDiffusers) {
  expect_half_precision_is_as_near();
}

TEST_P(MochiVae, OnAGpuItIsAsNear) {
  expect_a_gpu_is_as_near();
}

INSTANTIATE_TEST_SUITE_P(Mochi, MochiVae,
                         ::testing::Values(testing::VaeFixture{"released", 12, 60},
                                           testing::VaeFixture{"odd", 9, 60},
                                           testing::VaeFixture{"defaults", 9, 45}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(MochiVaeDecoder, ReportsEveryChunkAndStopsWhenToldTo) {
  const testing::Dump dump = kFixtures.dump("released");
  const VaeDecoder vae = kFixtures.open("released");
  using Calls = testing::TileReports;
  const auto calls = [&](const std::string& size, bool tiled, int64_t stop_at) {
    VaeRun run;
    run.tiled = tiled;
    run.tile_sizes = {32, 32, 24, 24};
    return testing::reports_of(vae, dump[size + ".z"], run, &VaeRun::on_chunk, stop_at);
  };
  EXPECT_EQ(calls("z", false, 0), (Calls{{1, 2}, {2, 2}}));                         // 3 latents: 2, 1
  EXPECT_EQ(calls("batch", false, 0).back(), (std::pair<int64_t, int64_t>{6, 6}));  // 2, 2, 1 of two videos
  EXPECT_EQ(calls("both", true, 0).size(), 6U);  // 5 x 7 latents at a stride of 3: 2 x 3 tiles
  EXPECT_EQ(calls("wide", true, 0).size(), 6U);  // 3 tiles of 2 chunks
  EXPECT_EQ(calls("wide", true, 3), (Calls{{1, 6}, {2, 6}, {3, 6}}));
}

TEST(MochiVaeDecoder, RefusesLatentsOfAnotherShape) {
  const VaeDecoder vae = kFixtures.open("released");
  EXPECT_THROW(vae.decode(at::zeros({1, 16, 2, 4, 4})), c10::Error);
  EXPECT_THROW(vae.decode(at::zeros({12, 2, 4, 4})), c10::Error);
  EXPECT_THROW(vae.decode(at::zeros({0, 12, 2, 4, 4})), c10::Error);
}

TEST(MochiVaeDecoder, RefusesWeightsOfAnotherModel) {
  testing::expect_weights_of_another_model_refused(kFixtures);
}

TEST(MochiVaeDecoder, ReadsTheDecoderOfTheReleasedCheckpoint) {
  testing::expect_released_decoder(kFixtures, 362'526'595);
}

}  // namespace
}  // namespace sagelab::mochi
