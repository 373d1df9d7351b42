// SPDX-License-Identifier: Apache-2.0
#include "pipelines/cogvideox/sampler.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "attention/error.h"
#include "tests/support/parity.h"

namespace sagelab::cogvideox {
namespace {

using at::Tensor;
using nlohmann::json;

constexpr uint64_t kSeed = 11;

std::filesystem::path folder() {
  return std::filesystem::path(SAGELAB_FIXTURES) / "cogvideox_samplers";
}

const testing::Dump& dump() {
  static const testing::Dump instance(folder() / "samplers.safetensors");
  return instance;
}

const json& cases() {
  static const json instance = read_json(folder() / "cases.json");
  return instance;
}

at::ScalarType dtype_of(const json& test) {
  const std::string name = test.at("dtype");
  return name == "float32" ? at::kFloat : name == "bfloat16" ? at::kBFloat16 : at::kHalf;
}

// Latents after every step [steps, ...], the way the pipeline steps.
Tensor run(const json& test) {
  const std::string name = test.at("config").at("_class_name");
  const auto sampler = make_sampler(Config(test.at("config"), "config"), name, test.at("steps"));
  const Tensor& predictions = dump()[test.at("predictions")];
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(kSeed);
  const auto shape = test.at("shape").get<std::vector<int64_t>>();
  Tensor latents = at::randn(shape, generator, dtype_of(test));
  std::vector<Tensor> out;
  for (int i = 0; i < int(sampler->timesteps().size()); ++i) {
    latents = sampler->step(predictions[i], i, latents, generator);
    out.push_back(latents);
  }
  return at::stack(out);
}

// Largest distance in units of the last place between tensors of a 16-bit dtype.
int64_t largest_ulp(const Tensor& a, const Tensor& b) {
  const auto ordered = [](const Tensor& x) {
    const Tensor bits = x.contiguous().view(at::kShort).to(at::kLong);
    return at::where(bits < 0, -(bits + 32768), bits);
  };
  return (ordered(a) - ordered(b)).abs().max().item<int64_t>();
}

json released() {
  return {{"_class_name", "CogVideoXDDIMScheduler"},
          {"_diffusers_version", "0.30.0"},
          {"beta_end", 0.012},
          {"beta_schedule", "scaled_linear"},
          {"beta_start", 0.00085},
          {"clip_sample", false},
          {"clip_sample_range", 1.0},
          {"num_train_timesteps", 1000},
          {"prediction_type", "v_prediction"},
          {"rescale_betas_zero_snr", true},
          {"sample_max_value", 1.0},
          {"set_alpha_to_one", true},
          {"snr_shift_scale", 3.0},
          {"steps_offset", 0},
          {"timestep_spacing", "trailing"},
          {"trained_betas", nullptr}};
}

json released(const json& changes) {
  json config = released();
  config.update(changes);
  return config;
}

Schedule schedule(const json& values, int steps) {
  Config config(values, "scheduler_config.json");
  return Schedule(SamplerConfig(config), steps);
}

TEST(Sampler, MatchesDiffusersAtEveryStep) {
  int seen = 0;
  for (const json& test : cases()) {
    if (test.contains("mutant")) continue;
    const std::string name = test.at("name");
    const Tensor ours = run(test), theirs = dump()[name];
    ASSERT_EQ(ours.sizes(), theirs.sizes()) << name;
    ASSERT_EQ(ours.scalar_type(), theirs.scalar_type()) << name;
    for (int64_t i = 0; i < ours.size(0); ++i) {
      if (ours.scalar_type() == at::kFloat) {
        EXPECT_LE(testing::relative_l2(ours[i], theirs[i]), 1e-6) << name << " step " << i << " " << test;
      } else {
        EXPECT_LE(largest_ulp(ours[i], theirs[i]), 1) << name << " step " << i << " " << test;
      }
    }
    ++seen;
  }
  EXPECT_GT(seen, 1900);
}

TEST(Sampler, EveryMutantOfTheOracleIsToldApart) {
  int seen = 0;
  for (const json& test : cases()) {
    if (!test.contains("mutant")) continue;
    EXPECT_GT(testing::relative_l2(run(test), dump()[test.at("name")]), 2e-6) << test;
    ++seen;
  }
  EXPECT_EQ(seen, 26);
}

TEST(Sampler, TimestepsAreExactForEveryStepCount) {
  for (const char* spacing : {"linspace", "leading", "trailing"}) {
    const Tensor lengths = dump()[std::string("lengths.") + spacing];
    const Tensor all = dump()[std::string("timesteps.") + spacing].to(at::kDouble);
    int64_t from = 0;
    for (int steps = 1; steps <= 1000; ++steps) {
      const auto ours = schedule(released({{"timestep_spacing", spacing}}), steps).timesteps();
      const int64_t n = lengths[steps - 1].item<int>();
      ASSERT_EQ(int64_t(ours.size()), n) << spacing << " " << steps;
      const double* theirs = all.const_data_ptr<double>() + from;
      ASSERT_EQ(ours, std::vector<double>(theirs, theirs + n)) << spacing << " " << steps;
      from += n;
    }
    EXPECT_EQ(from, all.numel());
  }
}

TEST(Sampler, AlphasOfTheReleasedCheckpoints) {
  const auto at = [](double snr, int64_t i) {
    return schedule(released({{"snr_shift_scale", snr}}), 50).alphas()[i].item<double>();
  };
  EXPECT_NEAR(at(3, 0), 0.99745433, 5e-9);
  EXPECT_NEAR(at(3, 19), 0.94657298, 5e-9);
  EXPECT_NEAR(at(3, 499), 0.09596956, 5e-9);
  EXPECT_NEAR(at(3, 979), 2.719436e-5, 5e-12);
  EXPECT_EQ(at(3, 999), 0);
  EXPECT_NEAR(at(1, 0), 0.99915, 5e-9);
  EXPECT_NEAR(at(1, 19), 0.98101046, 5e-9);
  EXPECT_NEAR(at(1, 499), 0.24235917, 5e-9);
  EXPECT_NEAR(at(1, 979), 8.578784e-5, 5e-12);
  EXPECT_EQ(at(1, 999), 0);
}

TEST(Sampler, FirstDdimStepFromPureNoiseIsMinusThePrediction) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(kSeed);
  const auto s = schedule(released(), 50);
  EXPECT_EQ(s.timesteps()[0], 999);
  EXPECT_EQ(s.timesteps()[49], 19);
  const Tensor v = at::randn({2, 3}, generator), x = at::randn({2, 3}, generator);
  EXPECT_TRUE(at::equal(s.denoised(v, 0, x), -v));
}

// Two draws on every step but the first and the last, from the generator that the caller goes on with.
TEST(Sampler, DpmMovesTheGeneratorAsDiffusersDoes) {
  const auto sampler = make_sampler(Config(released(), "config"), kDpmClass, 4);
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(kSeed);
  at::Generator twin = generator.clone();
  Tensor latents = at::zeros({1, 4, 5, 5});
  for (int i = 0; i < 4; ++i) latents = sampler->step(at::ones_like(latents), i, latents, generator);
  for (int draws = 0; draws < 6; ++draws) at::randn(latents.sizes(), twin);
  EXPECT_TRUE(at::equal(at::randn({8}, generator), at::randn({8}, twin)));
}

TEST(Sampler, ASecondRunOnTheSameSamplerStartsAfresh) {
  const auto sampler = make_sampler(Config(released(), "config"), kDpmClass, 3);
  const auto go = [&] {
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(kSeed);
    Tensor latents = at::randn({1, 4, 5, 5}, generator);
    for (int i = 0; i < 3; ++i) latents = sampler->step(latents.sin(), i, latents, generator);
    return latents;
  };
  EXPECT_TRUE(at::equal(go(), go()));
}

// As diffusers: the class is the caller's, whatever the config says of its own.
TEST(Sampler, TheConfigsOwnClassIsNotLookedAt) {
  for (const std::string_view own : {kDdimClass, kDpmClass, std::string_view("EulerDiscreteScheduler")}) {
    const json config = released({{"_class_name", own}});
    for (const std::string_view wanted : {kDdimClass, kDpmClass}) {
      const auto sampler = make_sampler(Config(config, "config"), wanted, 5);
      EXPECT_EQ(dynamic_cast<DpmSampler*>(sampler.get()) != nullptr, wanted == kDpmClass) << own;
    }
  }
}

std::pair<std::string, std::string> refusal(const json& values, int steps,
                                            std::string_view name = kDdimClass) {
  try {
    make_sampler(Config(values, "scheduler_config.json"), name, steps);
  } catch (const Error& e) {
    return {e.what(), e.hint()};
  }
  return {"nothing was thrown", ""};
}

TEST(Sampler, RefusesByName) {
  using ::testing::Pair;
  const auto change = [](const char* key, const json& value) {
    return refusal(released({{key, value}}), 50);
  };
  EXPECT_THAT(change("trained_betas", {0.5}),
              Pair("scheduler_config.json: trained_betas = [0.5] is not supported (only null)", ""));
  EXPECT_THAT(change("beta_schedule", "sigmoid"),
              Pair("scheduler_config.json: beta_schedule = \"sigmoid\" is not supported",
                   "known: linear, scaled_linear, squaredcos_cap_v2"));
  EXPECT_THAT(change("prediction_type", "flow"),
              Pair("scheduler_config.json: prediction_type = \"flow\" is not supported",
                   "known: epsilon, sample, v_prediction"));
  EXPECT_THAT(change("timestep_spacing", "even"),
              Pair("scheduler_config.json: timestep_spacing = \"even\" is not supported",
                   "known: linspace, leading, trailing"));
  EXPECT_THAT(change("thresholding", true),
              Pair("scheduler_config.json: unknown key thresholding = true",
                   "nothing here knows what it changes; remove it if it changes nothing"));
  EXPECT_THAT(change("num_train_timesteps", 0),
              Pair("scheduler_config.json: num_train_timesteps = 0 is not positive", ""));
  EXPECT_THAT(refusal(released({{"timestep_spacing", "leading"}, {"steps_offset", 20}}), 50),
              Pair("scheduler_config.json: steps_offset = 20 puts timestep 1000 beyond the last, 999", ""));
  EXPECT_THAT(change("prediction_type", "epsilon"),
              Pair("scheduler_config.json: prediction_type \"epsilon\" divides by zero at timestep 999",
                   "with rescale_betas_zero_snr only v_prediction and sample are possible there"));
}

TEST(Sampler, RefusesStepCountsOutsideTheTable) {
  using ::testing::Pair;
  const char* hint = "give 1 to 1000 (num_train_timesteps in scheduler_config.json)";
  EXPECT_THAT(refusal(released(), 0), Pair("0 steps are not possible with this scheduler", hint));
  EXPECT_THAT(refusal(released(), -3, kDpmClass),
              Pair("-3 steps are not possible with this scheduler", hint));
  EXPECT_THAT(refusal(released(), 1001), Pair("1001 steps are not possible with this scheduler", hint));
  EXPECT_EQ(refusal(released(), 1000).first, "nothing was thrown");
}

}  // namespace
}  // namespace sagelab::cogvideox
