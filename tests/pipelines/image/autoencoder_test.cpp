// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <numeric>

#include "attention/error.h"
#include "pipelines/image/autoencoder_kl.h"
#include "pipelines/run.h"
#include "tests/support/parity.h"

namespace sagelab {
namespace {

using at::Tensor;
using testing::Dump;

constexpr double kBound = 5e-6;
constexpr const char* kStem = "diffusion_pytorch_model";

std::filesystem::path folder_of(const std::string& name) {
  return testing::fixture("image_vae", name);
}

AutoencoderKLConfig config_of(const std::string& name) {
  Config config(folder_of(name) / "vae" / "config.json");
  return AutoencoderKLConfig(config);
}

AutoencoderKL load(const std::string& name, at::ScalarType dtype = at::kFloat) {
  const Weights weights(open_folder(folder_of(name) / "vae", kStem), {at::kCPU, dtype});
  AutoencoderKL vae(weights, config_of(name));
  weights.require_all_read(AutoencoderKL::unread_prefixes());
  return vae;
}

std::map<std::string, Tensor> stages_of(const AutoencoderKL& vae, const Tensor& z) {
  std::map<std::string, Tensor> seen;
  const auto observe = [&](const std::string& name, const Tensor& value) { seen[name] = value; };
  const Tensor out = vae.decode(z, {false, {}, observe});
  EXPECT_TRUE(at::equal(out, seen.at("conv_out")));
  return seen;
}

struct Fixture {
  const char* name;
  size_t stages, mutants;  // at least: a list that shrinks must be noticed
};

class Autoencoder : public ::testing::TestWithParam<Fixture> {
 protected:
  std::string name() const { return GetParam().name; }
  Dump dump() const { return Dump(folder_of(name()) / "dump.safetensors"); }

 private:
  c10::InferenceMode inference_;
};

TEST_P(Autoencoder, MatchesDiffusersAtEveryStage) {
  const Dump theirs = dump();
  const AutoencoderKL vae = load(name());
  const auto seen = stages_of(vae, theirs["z"]);
  EXPECT_EQ(seen.size(), GetParam().stages);
  for (const auto& [stage, value] : seen)
    EXPECT_TRUE(testing::matches_within(value, theirs, stage, kBound)) << stage;
}

TEST_P(Autoencoder, MatchesDiffusersInTilesAndAsAWhole) {
  const Dump theirs = dump();
  const AutoencoderKL vae = load(name());
  for (const std::string size : {"batch", "wide", "tall", "both"}) {
    const Tensor& z = theirs[size + ".z"];
    for (const bool tiled : {false, true}) {
      const std::string key = size + (tiled ? ".tiled" : ".sample");
      const Tensor ours = vae.decode(z, {tiled});
      // diffusers convolves a batch at once: its own rounding there is more than ours.
      EXPECT_TRUE(testing::matches(ours, theirs, key, kBound));
      EXPECT_LE(testing::relative_l2(ours, theirs[key + ".fp64"]), kBound) << key;
    }
    const bool cut = vae.config().needs_tiles(z.size(2), z.size(3));
    EXPECT_EQ(cut, size != "batch");
    EXPECT_EQ(at::equal(theirs[size + ".sample"], theirs[size + ".tiled"]), !cut);
  }
}

TEST_P(Autoencoder, UnscalesBitByBitInTheLatentsDtype) {
  const Dump theirs = dump();
  const AutoencoderKL vae = load(name());
  EXPECT_TRUE(at::equal(vae.unscale(theirs["latents"]), theirs["unscaled"]));
  EXPECT_TRUE(at::equal(vae.unscale(theirs["latents"].to(at::kBFloat16)), theirs["unscaled.bf16"]));
}

TEST_P(Autoencoder, EveryMutantIsToldApart) {
  const Dump theirs = dump(), mutants(folder_of(name()) / "mutants.safetensors");
  EXPECT_GE(mutants.tensors().size(), GetParam().mutants);
  const AutoencoderKL vae = load(name());
  const std::map<std::string, Tensor> ours = {{"conv_out", vae.decode(theirs["z"])},
                                              {"both.tiled", vae.decode(theirs["both.z"], {true})},
                                              {"unscaled", vae.unscale(theirs["latents"])}};
  for (const auto& [label, wrong] : mutants.tensors()) {
    const auto bar = label.find('|');
    const Tensor& right = ours.at(label.substr(bar + 1));
    const double off = testing::relative_l2(right, wrong);
    fmt::print("{:<40} {:<12} {:>10.1e}\n", label.substr(0, bar), label.substr(bar + 1), off);
    EXPECT_GT(off, 3 * kBound) << label;
  }
}

TEST_P(Autoencoder, HalfPrecisionIsAsNearToTheTruthAsDiffusers) {
  const Dump theirs = dump();
  const AutoencoderKL vae = load(name(), at::kBFloat16);
  for (const std::string size : {"batch", "wide", "tall", "both"}) {
    for (const bool tiled : {false, true}) {
      const std::string key = size + (tiled ? ".tiled" : ".sample");
      const Tensor ours = vae.decode(theirs[size + ".z"], {tiled});
      EXPECT_EQ(ours.scalar_type(), at::kBFloat16);
      const Tensor& truth = theirs[key + ".fp64"];
      EXPECT_LE(testing::relative_l2(ours, truth), 1.1 * testing::relative_l2(theirs[key + ".bf16"], truth))
          << key;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Image, Autoencoder,
                         ::testing::Values(Fixture{"flux", 21, 65}, Fixture{"sd3", 14, 65},
                                           Fixture{"sd1", 14, 63}, Fixture{"odd_config", 11, 52}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(AutoencoderKL, ReportsEveryTileAndStopsWhenToldTo) {
  const c10::InferenceMode inference;
  const Dump dump(folder_of("flux") / "dump.safetensors");
  const AutoencoderKL vae = load("flux");
  using Calls = std::vector<std::pair<int64_t, int64_t>>;
  const auto calls = [&](const std::string& size, bool tiled, int64_t stop_at) {
    Calls seen;
    const auto on_tile = [&](int64_t done, int64_t total) {
      seen.emplace_back(done, total);
      return done != stop_at;
    };
    bool cancelled = false;
    try {
      vae.decode(dump[size + ".z"], {tiled, on_tile});
    } catch (const Cancelled&) {
      cancelled = true;
    }
    EXPECT_EQ(cancelled, stop_at != 0);
    return seen;
  };
  EXPECT_EQ(calls("batch", true, 0), (Calls{{1, 3}, {2, 3}, {3, 3}}));
  EXPECT_EQ(calls("both", false, 0), (Calls{{1, 1}}));
  EXPECT_EQ(calls("both", true, 0).size(), 6U);  // 11 x 15 latents at a stride of 6
  EXPECT_EQ(calls("both", true, 2), (Calls{{1, 6}, {2, 6}}));
}

TEST(AutoencoderKL, RefusesLatentsOfAnotherShape) {
  const AutoencoderKL vae = load("flux");
  EXPECT_THROW(vae.decode(at::zeros({1, 15, 4, 4})), c10::Error);
  EXPECT_THROW(vae.decode(at::zeros({16, 4, 4})), c10::Error);
  EXPECT_THROW(vae.decode(at::zeros({0, 16, 4, 4})), c10::Error);
}

TEST(AutoencoderKL, RefusesWeightsOfAnotherModel) {
  const Weights weights(open_folder(folder_of("sd1") / "vae", kStem), {});
  EXPECT_THROW(AutoencoderKL(weights, config_of("flux")), Error);
}

// Names, shapes and their sum as diffusers' own class has them.
TEST(AutoencoderKL, ReadsTheDecoderOfTheReleasedCheckpoints) {
  std::ifstream stream(folder_of("names.json"));
  const auto released = nlohmann::json::parse(stream);
  for (const auto& [name, expected] : released.items()) {
    nlohmann::json values = {{"block_out_channels", {128, 256, 512, 512}},
                             {"layers_per_block", 2},
                             {"up_block_types", std::vector<std::string>(4, "UpDecoderBlock2D")},
                             {"latent_channels", name == "released_16" ? 16 : 4},
                             {"use_post_quant_conv", name != "released_16"}};
    Config config(values, name);
    const auto read = AutoencoderKL::requested_names(AutoencoderKLConfig(config));
    const auto theirs = expected.get<std::map<std::string, std::vector<int64_t>>>();
    EXPECT_TRUE(
        std::equal(read.begin(), read.end(), theirs.begin(), theirs.end(),
                   [](const auto& a, const auto& b) { return a.first == b.first && a.second == b.second; }))
        << name << ": " << read.size() << " tensors, diffusers has " << theirs.size();
    int64_t parameters = 0;
    for (const auto& [key, shape] : read)
      parameters += std::accumulate(shape.begin(), shape.end(), int64_t(1), std::multiplies<>());
    if (name == "released_16") {
      EXPECT_EQ(parameters, 49545475);
    }
  }
}

}  // namespace
}  // namespace sagelab
