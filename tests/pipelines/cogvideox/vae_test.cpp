// SPDX-License-Identifier: Apache-2.0
#include "pipelines/cogvideox/vae/decoder.h"

#include <c10/core/InferenceMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "attention/error.h"
#include "pipelines/cogvideox/vae/chunks.h"
#include "pipelines/pipeline.h"
#include "pipelines/video/conv.h"
#include "tests/support/memory_meter.h"
#include "tests/support/parity.h"

namespace sagelab::cogvideox {
namespace {

using at::Tensor;
using testing::Dump;

constexpr double kBound = 5e-6;
const char* const kFixtures[] = {"2b", "5b", "1.5", "long_even", "long_odd", "odd_config"};

class Vae : public ::testing::Test {
 private:
  c10::InferenceMode inference_;
};

VaeConfig config_of(const std::filesystem::path& folder) {
  Config config(folder / "config.json");
  return VaeConfig(config);
}

VaeConfig config_of(const nlohmann::json& values) {
  Config config(values, "vae/config.json");
  return VaeConfig(config);
}

VaeDecoder load(const std::filesystem::path& folder, at::ScalarType dtype = at::kFloat) {
  const Weights weights(open_folder(folder, "diffusion_pytorch_model"), {at::kCPU, dtype});
  VaeDecoder decoder(weights, config_of(folder));
  const std::string_view ignored[] = {"encoder"};
  weights.require_all_read(ignored);
  return decoder;
}

std::filesystem::path small_folder() {
  return std::filesystem::path(SAGELAB_FIXTURES) / "cogvideox_vae";
}

const Dump& small_dump() {
  static const Dump dump(small_folder() / "decodes.safetensors");
  return dump;
}

VaeDecoder random_decoder(const VaeConfig& config) {
  const Weights weights(random_source(1), {});
  VaeDecoder decoder(weights, config);
  weights.require_all_read();
  return decoder;
}

TEST_F(Vae, MatchesDiffusersOnEveryFixture) {
  int tiled = 0;
  for (const char* name : kFixtures) {
    SCOPED_TRACE(name);
    const auto folder = testing::fixture("cogvideox", name);
    const Dump dump(folder / "dump.safetensors");
    const VaeDecoder vae = load(folder / "model" / "vae");
    EXPECT_TRUE(testing::matches_within(vae.decode(dump["vae.z"], false), dump, "vae.sample", kBound));
    if (!dump.has("vae.tiled_sample")) continue;
    EXPECT_TRUE(testing::matches_within(vae.decode(dump["vae.z"], true), dump, "vae.tiled_sample", kBound));
    ++tiled;
  }
  EXPECT_GE(tiled, 2);
}

// One latent frame, two, batches, and tiles whose constants do not divide.
TEST_F(Vae, MatchesDiffusersOnAwkwardSizes) {
  const VaeDecoder vae = load(small_folder() / "vae");
  for (const char* name : {"one_frame", "two_frames", "batch", "wide", "tall", "both"}) {
    const std::string base = name;
    const Tensor& z = small_dump()[base + ".z"];
    EXPECT_TRUE(testing::matches_within(vae.decode(z, false), small_dump(), base + ".sample", kBound));
    EXPECT_TRUE(testing::matches_within(vae.decode(z, true), small_dump(), base + ".tiled", kBound));
  }
}

TEST_F(Vae, EveryMutantOfTheTilesIsToldApart) {
  const VaeDecoder vae = load(small_folder() / "vae");
  const Tensor ours = vae.decode(small_dump()["both.z"], true);
  int seen = 0;
  for (const auto& [key, wrong] : small_dump().tensors()) {
    if (!key.starts_with("both.tiled|")) continue;
    EXPECT_GT(testing::relative_l2(ours, wrong), 1e-3) << key;
    ++seen;
  }
  EXPECT_EQ(seen, 6);
}

TEST_F(Vae, HalfPrecisionIsAsNearToTheTruthAsDiffusers) {
  const VaeDecoder vae = load(small_folder() / "vae", at::kBFloat16);
  for (const char* key : {"batch.sample", "wide.sample", "tall.tiled", "both.tiled"}) {
    const std::string name = key, base = name.substr(0, name.find('.'));
    const Tensor ours = vae.decode(small_dump()[base + ".z"], name.ends_with("tiled"));
    EXPECT_EQ(ours.scalar_type(), at::kBFloat16);
    const Tensor& truth = small_dump()[name + ".fp64"];
    EXPECT_LE(testing::relative_l2(ours, truth),
              1.1 * testing::relative_l2(small_dump()[name + ".bf16"], truth))
        << name;
  }
}

TEST_F(Vae, ReportsEveryChunkAndStopsWhenToldTo) {
  const VaeDecoder vae = load(small_folder() / "vae");
  const auto calls = [&](const std::string& name, bool tiled, int64_t stop_at) {
    std::vector<std::pair<int64_t, int64_t>> seen;
    const auto on_chunk = [&](int64_t done, int64_t total) {
      seen.emplace_back(done, total);
      return done != stop_at;
    };
    bool cancelled = false;
    try {
      vae.decode(small_dump()[name + ".z"], tiled, on_chunk);
    } catch (const Cancelled&) {
      cancelled = true;
    }
    EXPECT_EQ(cancelled, stop_at != 0);
    return seen;
  };
  using Calls = std::vector<std::pair<int64_t, int64_t>>;
  EXPECT_EQ(calls("batch", false, 0),
            (Calls{{1, 4}, {2, 4}, {3, 4}, {4, 4}}));  // 5 latents: 3, 2; two videos
  EXPECT_EQ(calls("wide", true, 0).size(), 8u);        // 4 tiles of 2 chunks
  EXPECT_EQ(calls("wide", true, 3), (Calls{{1, 8}, {2, 8}, {3, 8}}));
  EXPECT_EQ(calls("one_frame", false, 1), (Calls{{1, 1}}));
}

TEST_F(Vae, ChunksAreTwoLatentsAndTheFirstTakesTheOddOne) {
  const auto lengths = [](int64_t frames) {
    std::vector<int64_t> out;
    int64_t at = 0;
    for (const ChunkRange& c : chunk_ranges(frames)) {
      EXPECT_EQ(c.begin, at);
      out.push_back(c.end - c.begin);
      at = c.end;
    }
    EXPECT_EQ(at, frames);
    return out;
  };
  using Lengths = std::vector<int64_t>;
  EXPECT_EQ(lengths(1), (Lengths{1}));
  EXPECT_EQ(lengths(2), (Lengths{2}));
  EXPECT_EQ(lengths(3), (Lengths{3}));
  EXPECT_EQ(lengths(13), (Lengths{3, 2, 2, 2, 2, 2}));
  EXPECT_EQ(lengths(8), (Lengths{2, 2, 2, 2}));
  EXPECT_EQ(output_frames(config_of(nlohmann::json::object()), chunk_ranges(13)), 49);
  EXPECT_EQ(output_frames(config_of(nlohmann::json::object()), chunk_ranges(21)), 81);
  EXPECT_EQ(output_frames(config_of(nlohmann::json::object()), chunk_ranges(1)), 1);
}

TEST_F(Vae, TileConstantsOfTheReleasedCheckpoints) {
  const TilePlan plan = tile_plan(config_of(nlohmann::json::object()));
  const auto constants = [](const TileAxis& a) {
    return std::vector<int64_t>{a.tile, a.stride, a.blend, a.keep, a.output(60)};
  };
  EXPECT_EQ(constants(plan.rows), (std::vector<int64_t>{30, 25, 40, 200, 480}));
  EXPECT_EQ(constants(plan.columns), (std::vector<int64_t>{45, 36, 72, 288, 480}));
  EXPECT_FALSE(needs_tiles(plan, 30, 45));
  EXPECT_TRUE(needs_tiles(plan, 31, 45));
  EXPECT_TRUE(needs_tiles(plan, 30, 46));
}

TEST_F(Vae, TilesTooSmallToAdvanceAreAnError) {
  try {
    tile_plan(config_of({{"sample_height", 480}, {"sample_width", 16}}));
    FAIL() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_STREQ(
        e.what(),
        "VAE tiles of 30 x 1 latents (half of sample_height 480 and sample_width 16) are too small to "
        "overlap");
    EXPECT_EQ(e.hint(), "decode without tiling");
  }
}

TEST_F(Vae, RefusesLatentsOfAnotherShape) {
  const VaeDecoder vae = load(small_folder() / "vae");
  EXPECT_THROW(vae.decode(at::zeros({1, 5, 2, 3, 3}), false), c10::Error);
  EXPECT_THROW(vae.decode(at::zeros({6, 2, 3, 3}), false), c10::Error);
}

TEST_F(Vae, ConvolutionsInPartsAlongTimeGiveTheSame) {
  const Tensor x = at::randn({1, 4, 11, 6, 5}), point = at::randn({3, 4, 1, 1, 1});
  const Tensor weight = at::randn({3, 4, 3, 3, 3}), bias = at::randn({3});
  for (const int64_t largest : {x.numel() / 2, x.numel() / 3, x.numel() / 40}) {
    EXPECT_GT(conv_parts(x.numel(), largest), 1);
    EXPECT_LE(testing::relative_l2(conv3d(x, weight, bias, 1, largest), conv3d(x, weight, bias, 1)), 1e-6);
    EXPECT_LE(testing::relative_l2(conv3d(x, point, bias, 0, largest), conv3d(x, point, bias, 0)), 1e-6);
  }
}

// The decoder of the released checkpoints has 123,368,451 parameters, and reads nothing else.
TEST_F(Vae, ReadsTheDecoderOfTheReleasedCheckpoints) {
  const Weights weights(shape_source(), {at::kMeta, at::kBFloat16});
  const VaeDecoder vae(weights, config_of(nlohmann::json::object()));
  int64_t parameters = 0;
  for (const auto& [key, shape] : weights.requested()) {
    EXPECT_TRUE(key.starts_with("decoder.")) << key;
    parameters += std::accumulate(shape.begin(), shape.end(), int64_t(1), std::multiplies<>());
  }
  EXPECT_EQ(parameters, 123368451);
}

// Small pictures, where LibTorch unfolds inputs, and such as oneDNN takes.
TEST_F(Vae, PredictsItsPeakMemory) {
  const VaeConfig config = config_of({{"block_out_channels", {32, 32, 64, 64}},
                                      {"layers_per_block", 1},
                                      {"norm_num_groups", 8},
                                      {"sample_height", 384},
                                      {"sample_width", 128}});
  const VaeDecoder vae = random_decoder(config);
  struct Size {
    int64_t frames, h, w;
  };
  for (const Size& size : {Size{3, 20, 9}, Size{4, 20, 11}, Size{5, 20, 10}, Size{3, 6, 8}, Size{3, 8, 12}}) {
    for (const bool tiled : {false, true}) {
      const Tensor z = at::randn({1, 16, size.frames, size.h, size.w});
      const double predicted =
          double(decode_peak_bytes(config, {size.frames, size.h, size.w, tiled}, {at::kCPU, at::kFloat}));
      const double measured = double(testing::peak_bytes_of([&] { vae.decode(z, tiled); }));
      EXPECT_NEAR(predicted / measured, 1, 0.15)
          << size.frames << " x " << size.h << " x " << size.w << (tiled ? " tiled" : "") << ": predicted "
          << predicted << ", measured " << measured;
    }
  }
}

TEST_F(Vae, PeakMemoryOfTheReleasedCheckpoints) {
  const VaeConfig config = config_of(nlohmann::json::object());
  const Target kHalf{at::kCUDA, at::kHalf};
  const int64_t whole = decode_peak_bytes(config, {13, 60, 90, false}, kHalf);
  const int64_t tiled = decode_peak_bytes(config, {13, 60, 90, true}, kHalf);
  EXPECT_LT(whole, int64_t(10) << 30);
  EXPECT_LT(tiled, whole / 3);
  EXPECT_EQ(decode_peak_bytes(config, {13, 60, 90, false}, {at::kCUDA, at::kFloat}), 2 * whole);
  // A latent no larger than a tile is not cut.
  EXPECT_EQ(decode_peak_bytes(config, {13, 30, 45, true}, kHalf),
            decode_peak_bytes(config, {13, 30, 45, false}, kHalf));
}

}  // namespace
}  // namespace sagelab::cogvideox
