// SPDX-License-Identifier: Apache-2.0
#include "pipelines/hunyuanvideo/vae/decoder.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <numeric>

#include "attention/error.h"
#include "pipelines/run.h"
#include "tests/support/parity.h"

namespace sagelab::hunyuanvideo {
namespace {

using at::Tensor;
using testing::Dump;

constexpr double kBound = 5e-6;
constexpr const char* kStem = "diffusion_pytorch_model";
const char* const kSizes[] = {"z", "one", "batch", "long", "seven", "wide", "tall", "both"};

std::filesystem::path folder_of(const std::string& name) {
  return testing::fixture("hunyuanvideo_vae", name);
}

VaeConfig config_of(const std::string& name) {
  Config config(folder_of(name) / "vae" / "config.json");
  return VaeConfig(config);
}

nlohmann::json read(const std::filesystem::path& file) {
  std::ifstream stream(file);
  return nlohmann::json::parse(stream);
}

VaeDecoder load(const std::string& name, const Target& target = {}) {
  const Weights weights(open_folder(folder_of(name) / "vae", kStem), target);
  VaeDecoder vae(weights, config_of(name));
  weights.require_all_read(VaeDecoder::unread_prefixes());
  return vae;
}

struct Fixture {
  const char* name;
  size_t stages, mutants;  // at least: a list that shrinks must be noticed
};

class HunyuanVideoVae : public ::testing::TestWithParam<Fixture> {
 protected:
  std::string name() const { return GetParam().name; }
  Dump dump() const { return Dump(folder_of(name()) / "dump.safetensors"); }
  // What the oracle made in half precision too: on a CPU large videos take minutes so, and in fp16 all do.
  std::vector<std::string> half_keys(const Target& target) const {
    if (target.device == at::kCPU && target.dtype == at::kHalf) return {"one.sample"};
    if (name() == "odd") return {"z.sample", "both.sample", "both.tiled"};
    return {"z.sample"};
  }
  VaeRun way(const std::string& key) const {
    VaeRun run;
    const auto sizes = read(folder_of(name()) / "tiles.json");
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

 private:
  c10::InferenceMode inference_;
};

TEST_P(HunyuanVideoVae, MatchesDiffusersAtEveryStage) {
  const Dump theirs = dump();
  const VaeDecoder vae = load(name());
  std::map<std::string, Tensor> seen;
  VaeRun run = way("z.sample");
  run.observe = [&](const std::string& stage, const Tensor& value) { seen[stage] = value; };
  vae.decode(theirs["z.z"], run);
  EXPECT_EQ(seen.size(), GetParam().stages);
  for (const auto& [stage, value] : seen)
    EXPECT_TRUE(testing::matches_within(value, theirs, stage, kBound)) << stage;
}

// One latent frame, tiles of time whose last gives nothing, batches; in tiles of space too, and in none.
TEST_P(HunyuanVideoVae, MatchesDiffusersInTilesAndAsAWhole) {
  const Dump theirs = dump();
  const VaeDecoder vae = load(name());
  for (const std::string size : kSizes) {
    for (const char* kind : {".sample", ".tiled", ".whole"}) {
      const std::string key = size + kind;
      const Tensor ours = vae.decode(theirs[size + ".z"], way(key));
      EXPECT_TRUE(testing::matches_within(ours, theirs, key, kBound));
      EXPECT_LE(testing::relative_l2(ours, theirs[key + ".fp64"]), kBound) << key;
    }
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
  const Dump theirs = dump();
  const VaeDecoder vae = load(name());
  EXPECT_TRUE(at::equal(vae.unscale(theirs["latents"]), theirs["unscaled"]));
  EXPECT_TRUE(at::equal(vae.unscale(theirs["latents"].to(at::kBFloat16)), theirs["unscaled.bf16"]));
}

TEST_P(HunyuanVideoVae, EveryMutantIsToldApart) {
  const Dump theirs = dump(), mutants(folder_of(name()) / "mutants.safetensors");
  EXPECT_GE(mutants.tensors().size(), GetParam().mutants);
  const VaeDecoder vae = load(name());
  const std::map<std::string, Tensor> ours = {
      {"z.sample", vae.decode(theirs["z.z"], way("z.sample"))},
      {"both.tiled", vae.decode(theirs["both.z"], way("both.tiled"))},
      {"long.sample", vae.decode(theirs["long.z"], way("long.sample"))},
      {"unscaled", vae.unscale(theirs["latents"])}};
  for (const auto& [label, wrong] : mutants.tensors()) {
    const auto bar = label.find('|');
    EXPECT_GT(testing::relative_l2(ours.at(label.substr(bar + 1)), wrong), 3 * kBound) << label;
  }
}

TEST_P(HunyuanVideoVae, HalfPrecisionIsAsNearToTheTruthAsDiffusers) {
  const Dump theirs = dump();
  for (const auto& [dtype, suffix] : {std::pair{at::kBFloat16, ".bf16"}, std::pair{at::kHalf, ".fp16"}}) {
    const VaeDecoder vae = load(name(), {at::kCPU, dtype});
    for (const std::string& key : half_keys({at::kCPU, dtype})) {
      const Tensor ours = vae.decode(theirs[key.substr(0, key.find('.')) + ".z"], way(key));
      EXPECT_EQ(ours.scalar_type(), dtype);
      const Tensor& truth = theirs[key + ".fp64"];
      EXPECT_LE(testing::relative_l2(ours, truth), 1.1 * testing::relative_l2(theirs[key + suffix], truth))
          << key << suffix;
    }
  }
}

TEST_P(HunyuanVideoVae, OnAGpuItIsAsNear) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
  const Dump theirs = dump();
  const struct {
    at::ScalarType dtype;
    const char* reference;
  } kinds[] = {{at::kFloat, ""}, {at::kBFloat16, ".bf16"}, {at::kHalf, ".fp16"}};
  for (const auto& kind : kinds) {
    const VaeDecoder vae = load(name(), {at::kCUDA, kind.dtype});
    for (const std::string& key : half_keys({at::kCUDA, kind.dtype})) {
      const Tensor z = theirs[key.substr(0, key.find('.')) + ".z"].to(at::kCUDA);
      const double off = testing::relative_l2(vae.decode(z, way(key)).cpu(), theirs[key + ".fp64"]);
      // cuDNN's fp32 convolutions are TF32's where they may be: ten bits, as fp16 has.
      const std::string reference = kind.dtype == at::kFloat ? ".fp16" : kind.reference;
      EXPECT_LE(off, 1.25 * testing::relative_l2(theirs[key + reference], theirs[key + ".fp64"]))
          << key << ' ' << kind.dtype;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(HunyuanVideo, HunyuanVideoVae,
                         ::testing::Values(Fixture{"released", 18, 70}, Fixture{"odd", 17, 60},
                                           Fixture{"defaults", 18, 55}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(HunyuanVideoVaeDecoder, ReportsEveryTileAndStopsWhenToldTo) {
  const c10::InferenceMode inference;
  const Dump dump(folder_of("released") / "dump.safetensors");
  const VaeDecoder vae = load("released");
  using Calls = std::vector<std::pair<int64_t, int64_t>>;
  const auto calls = [&](const std::string& size, bool tiled, int64_t stop_at) {
    Calls seen;
    VaeRun run;
    run.tiled = tiled;
    run.sizes = {16, 64, 48, 12, 48, 32};
    run.on_tile = [&](int64_t done, int64_t total) {
      seen.emplace_back(done, total);
      return done != stop_at;
    };
    bool cancelled = false;
    try {
      vae.decode(dump[size + ".z"], run);
    } catch (const Cancelled&) {
      cancelled = true;
    }
    EXPECT_EQ(cancelled, stop_at != 0);
    return seen;
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
  const VaeDecoder vae = load("released");
  EXPECT_THROW(vae.decode(at::zeros({1, 16, 2, 4, 4})), c10::Error);
  EXPECT_THROW(vae.decode(at::zeros({6, 2, 4, 4})), c10::Error);
  EXPECT_THROW(vae.decode(at::zeros({0, 6, 2, 4, 4})), c10::Error);
}

TEST(HunyuanVideoVaeDecoder, RefusesWeightsOfAnotherModel) {
  const Weights weights(open_folder(folder_of("released") / "vae", kStem), {});
  EXPECT_THROW(VaeDecoder(weights, config_of("odd")), Error);
}

// Names, shapes and their sum as diffusers' own class has them.
TEST(HunyuanVideoVaeDecoder, ReadsTheDecoderOfTheReleasedCheckpoint) {
  const Weights weights(shape_source(), {at::kMeta, at::kBFloat16});
  Config config(nlohmann::json::object(), "released");
  const VaeDecoder vae(weights, VaeConfig(config));
  const auto theirs = read(folder_of("names.json")).get<std::map<std::string, std::vector<int64_t>>>();
  const auto ours = weights.requested();
  EXPECT_EQ((std::map<std::string, std::vector<int64_t>>(ours.begin(), ours.end())), theirs);
  int64_t parameters = 0;
  for (const auto& [key, shape] : ours) {
    parameters += std::accumulate(shape.begin(), shape.end(), int64_t(1), std::multiplies<>());
  }
  EXPECT_EQ(parameters, 146136339);
}

}  // namespace
}  // namespace sagelab::hunyuanvideo
