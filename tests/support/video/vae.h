// SPDX-License-Identifier: Apache-2.0
// What the tests of video autoencoders share: a family's tiny ones, and the checks that do not know how it
// cuts a video.
#pragma once

#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include "attention/error.h"
#include "tests/support/transformer_parity.h"

namespace sagelab::testing {

inline constexpr double kVaeBound = 5e-6;

// What tests/oracle/<family>/vae.py makes.
template <class Decoder, class ModelConfig>
struct VaeFixtures {
  const char* set;

  std::filesystem::path folder(const std::string& name) const { return fixture(set, name); }
  Dump dump(const std::string& name) const { return Dump(folder(name) / "dump.safetensors"); }
  ModelConfig config(const std::string& name) const { return config_in<ModelConfig>(folder(name) / "vae"); }
  Decoder open(const std::string& name, const Target& target = {}) const {
    const Weights weights(open_folder(folder(name) / "vae", kStem), target);
    Decoder vae(weights, config(name));
    weights.require_all_read(Decoder::unread_prefixes());
    return vae;
  }
};

struct VaeFixture {
  const char* name;
  size_t stages, mutants;  // mutants: at least; a list that shrinks must be noticed
};

// Keys of the dump: "<size>.<kind>", where kind is a way to decode "<size>.z".
template <class Decoder, class ModelConfig, class How>
class VaeParity : public ::testing::TestWithParam<VaeFixture> {
 protected:
  using Fixtures = VaeFixtures<Decoder, ModelConfig>;
  explicit VaeParity(const Fixtures& fixtures) : fixtures_(fixtures) {}

  // How diffusers decoded a key, without its sizes of tiles, or in those.
  virtual How way(const std::string& key) const = 0;
  // null: the family's own.
  nlohmann::json tile_sizes() const { return read_json(fixtures_.folder(name) / "tiles.json"); }

  Decoder open(const Target& target = {}) const { return fixtures_.open(name, target); }
  const at::Tensor& latents(const std::string& key) const {
    return theirs[key.substr(0, key.find('.')) + ".z"];
  }
  at::Tensor decoded(const Decoder& vae, const std::string& key) const {
    return vae.decode(latents(key), way(key));
  }
  void expect_theirs(const Decoder& vae, const std::string& key) const {
    const at::Tensor ours = decoded(vae, key);
    EXPECT_TRUE(matches_within(ours, theirs, key, kVaeBound));
    EXPECT_LE(relative_l2(ours, theirs[key + ".fp64"]), kVaeBound) << key;
  }
  // Bit by bit, in the latents' dtype.
  void expect_unscaled() const {
    const Decoder vae = open();
    EXPECT_TRUE(at::equal(vae.unscale(theirs["latents"]), theirs["unscaled"]));
    EXPECT_TRUE(at::equal(vae.unscale(theirs["latents"].to(at::kBFloat16)), theirs["unscaled.bf16"]));
  }
  // keys: beside "unscaled", what the mutants were made of.
  void expect_every_mutant_fails(const std::vector<std::string>& keys) const {
    const Dump mutants(fixtures_.folder(name) / "mutants.safetensors");
    EXPECT_GE(mutants.tensors().size(), GetParam().mutants);
    const Decoder vae = open();
    std::map<std::string, at::Tensor> ours = {{"unscaled", vae.unscale(theirs["latents"])}};
    for (const auto& key : keys) ours[key] = decoded(vae, key);
    for (const auto& [label, wrong] : mutants.tensors())
      EXPECT_GT(relative_l2(ours.at(label.substr(label.find('|') + 1)), wrong), 3 * kVaeBound) << label;
  }
  void expect_half_precision_is_as_near() const {
    for (const auto& [dtype, suffix] : {std::pair{at::kBFloat16, ".bf16"}, std::pair{at::kHalf, ".fp16"}}) {
      const Decoder vae = open({at::kCPU, dtype});
      for (const std::string& key : half_keys({at::kCPU, dtype})) {
        const at::Tensor ours = decoded(vae, key);
        EXPECT_EQ(ours.scalar_type(), dtype);
        EXPECT_LE(relative_l2(ours, theirs[key + ".fp64"]), 1.1 * own_error(key, suffix)) << key << suffix;
      }
    }
  }
  void expect_a_gpu_is_as_near() const {
    if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
    // cuDNN's fp32 convolutions are TF32's where they may be: ten bits, as fp16 has.
    for (const auto& [dtype, suffix] :
         {std::pair{at::kFloat, ".fp16"}, {at::kBFloat16, ".bf16"}, {at::kHalf, ".fp16"}}) {
      const Decoder vae = open({at::kCUDA, dtype});
      for (const std::string& key : half_keys({at::kCUDA, dtype})) {
        const at::Tensor ours = vae.decode(latents(key).to(at::kCUDA), way(key)).cpu();
        EXPECT_LE(relative_l2(ours, theirs[key + ".fp64"]), 1.25 * own_error(key, suffix))
            << key << ' ' << dtype;
      }
    }
  }

 private:
  // What the oracle made in half precision too: on a CPU large videos take minutes so, and in fp16 all do.
  std::vector<std::string> half_keys(const Target& target) const {
    if (target.device == at::kCPU && target.dtype == at::kHalf) return {"one.sample"};
    if (name == "odd") return {"z.sample", "both.sample", "both.tiled"};
    return {"z.sample"};
  }
  double own_error(const std::string& key, const std::string& suffix) const {
    return relative_l2(theirs[key + suffix], theirs[key + ".fp64"]);
  }

  const c10::InferenceMode inference_;
  const Fixtures fixtures_;

 protected:
  const std::string name = GetParam().name;
  const Dump theirs = fixtures_.dump(name);
};

}  // namespace sagelab::testing
