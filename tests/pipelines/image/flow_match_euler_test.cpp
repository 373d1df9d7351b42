// SPDX-License-Identifier: Apache-2.0
#include "pipelines/image/flow_match_euler.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <limits>

#include "attention/error.h"
#include "tests/support/config_refusal.h"
#include "tests/support/parity.h"

namespace sagelab {
namespace {

using at::Tensor;
using Json = nlohmann::json;
using testing::Dump;

std::filesystem::path folder() {
  return std::filesystem::path(SAGELAB_FIXTURES) / "image_schedules";
}

const Dump& dump() {
  static const Dump dump(folder() / "dump.safetensors");
  return dump;
}

Json cases() {
  std::ifstream stream(folder() / "cases.json");
  return Json::parse(stream);
}

FlowMatchEulerConfig scheduler(const Json& values) {
  return testing::parse<FlowMatchEulerConfig>(values, "scheduler/scheduler_config.json");
}

std::string scheduler_refusal(const Json& values) {
  return testing::refusal<FlowMatchEulerConfig>(values, "scheduler/scheduler_config.json");
}

FlowMatchEuler open(const Json& item) {
  const FlowMatchEulerConfig config = scheduler(item.at("config"));
  FlowMatchSteps steps;
  steps.steps = item.at("steps").get<int>();
  if (!item.at("sigmas").is_null()) steps.sigmas = item.at("sigmas").get<std::vector<double>>();
  if (!item.at("tokens").is_null()) steps.mu = config.mu(item.at("tokens").get<int64_t>());
  return {config, steps};
}

// Of the case called so.
FlowMatchEuler open_named(const std::string& name) {
  for (const Json& item : cases())
    if (item.at("name") == name) return open(item);
  throw std::runtime_error("no case " + name);
}

Tensor timesteps_of(const FlowMatchEuler& sampler) {
  return at::tensor(sampler.timesteps(), at::kDouble);
}

TEST(FlowMatchEuler, SchedulesAreDiffusersBitByBit) {
  int seen = 0;
  for (const Json& item : cases()) {
    const auto name = item.at("name").get<std::string>();
    const FlowMatchEuler sampler = open(item);
    EXPECT_TRUE(at::equal(sampler.sigmas(), dump()[name + ".sigmas"]))
        << name << ": " << (sampler.sigmas() - dump()[name + ".sigmas"]).abs().max().item<double>();
    EXPECT_TRUE(at::equal(timesteps_of(sampler), dump()[name + ".timesteps"].to(at::kDouble))) << name;
    ++seen;
  }
  EXPECT_GE(seen, 28);
}

TEST(FlowMatchEuler, MuIsDiffusersBitByBit) {
  int seen = 0;
  for (const Json& item : cases()) {
    if (item.at("tokens").is_null()) continue;
    EXPECT_EQ(scheduler(item.at("config")).mu(item.at("tokens").get<int64_t>()), item.at("mu").get<double>());
    ++seen;
  }
  EXPECT_GE(seen, 12);
  const FlowMatchEulerConfig dev = scheduler({{"use_dynamic_shifting", true}, {"shift", 3.0}});
  EXPECT_NEAR(dev.mu(4096), 1.15, 1e-12);
  EXPECT_NEAR(dev.mu(1024), 0.63, 1e-12);
  EXPECT_NEAR(dev.mu(256), 0.5, 1e-12);
}

// Every step from diffusers' own latents before it, in fp32, bf16 and fp16.
TEST(FlowMatchEuler, StepsAreDiffusersBitByBit) {
  at::Generator generator = at::detail::createCPUGenerator(1);
  const Tensor state = generator.get_state();
  for (const Json& item : cases()) {
    const auto name = item.at("name").get<std::string>();
    FlowMatchEuler sampler = open(item);
    for (int i = 0; i < item.at("steps").get<int>(); ++i) {
      const auto at = [&](const char* what, int step) {
        return dump()[fmt::format("{}.{}.{}", name, what, step)];
      };
      const Tensor next = sampler.step(at("v", i), i, at("x", i), generator);
      EXPECT_EQ(next.scalar_type(), at("v", i).scalar_type());
      EXPECT_TRUE(at::equal(next, at("x", i + 1))) << name << ", step " << i;
      const Tensor clean = sampler.denoised(at("v", i), i, at("x", i));
      EXPECT_EQ(clean.scalar_type(), at::kFloat);
      EXPECT_TRUE(at::equal(clean, at("x0", i))) << name << ", step " << i;
    }
  }
  EXPECT_TRUE(at::equal(generator.get_state(), state)) << "the step drew noise";
}

TEST(FlowMatchEuler, EveryMutantIsToldApart) {
  const Dump mutants(folder() / "mutants.safetensors");
  EXPECT_GE(mutants.tensors().size(), 229U);
  at::Generator generator = at::detail::createCPUGenerator(1);
  for (const auto& [label, wrong] : mutants.tensors()) {
    const std::string name = label.substr(0, label.find('|'));
    FlowMatchEuler sampler = open_named(name);
    const Tensor ours = label.ends_with("|x.1")
                            ? sampler.step(dump()[name + ".v.0"], 0, dump()[name + ".x.0"], generator)
                            : sampler.sigmas();
    EXPECT_FALSE(ours.sizes() == wrong.sizes() && at::equal(ours, wrong)) << label;
  }
}

TEST(FlowMatchEuler, KnownSchedules) {
  const auto close = [](const FlowMatchEuler& sampler, std::vector<double> first, std::vector<double> last) {
    const Tensor s = sampler.sigmas().to(at::kDouble);
    const int64_t n = int64_t(last.size());
    return at::allclose(s.narrow(0, 0, int64_t(first.size())), at::tensor(first, at::kDouble), 0, 1e-6) &&
           at::allclose(s.narrow(0, s.numel() - n, n), at::tensor(last, at::kDouble), 0, 1e-6);
  };
  EXPECT_TRUE(close(open_named("schnell.4"), {1, 0.75}, {0.5, 0.25, 0}));
  EXPECT_TRUE(close(open_named("dev.28.4096"), {1, 0.988409, 0.976222, 0.963394}, {0.195455, 0.104721, 0}));
  EXPECT_TRUE(close(open_named("sd3.28"), {1, 0.987381, 0.974108, 0.960129}, {0.110906, 0.008929, 0}));
  EXPECT_TRUE(close(open_named("sd3.4"), {1, 0.857692, 0.602151}, {0.008929, 0}));
}

TEST(FlowMatchEuler, LinearSigmasAreNumPys) {
  EXPECT_EQ(linear_sigmas(1), std::vector<double>{1});
  EXPECT_EQ(linear_sigmas(4), (std::vector<double>{1, 0.75, 0.5, 0.25}));
  EXPECT_TRUE(linear_sigmas(0).empty());
  for (const Json& item : cases()) {
    if (!item.at("name").get<std::string>().starts_with("dev.")) continue;
    EXPECT_EQ(linear_sigmas(item.at("steps").get<int>()), item.at("sigmas").get<std::vector<double>>());
  }
}

TEST(FlowMatchEulerConfig, ReadsTheReleasedKeys) {
  const FlowMatchEulerConfig dev = scheduler({{"_class_name", "FlowMatchEulerDiscreteScheduler"},
                                              {"_diffusers_version", "0.30.0.dev0"},
                                              {"base_image_seq_len", 256},
                                              {"base_shift", 0.5},
                                              {"max_image_seq_len", 4096},
                                              {"max_shift", 1.15},
                                              {"num_train_timesteps", 1000},
                                              {"shift", 3.0},
                                              {"use_dynamic_shifting", true}});
  EXPECT_TRUE(dev.use_dynamic_shifting);
  EXPECT_EQ(dev.shift, 3.0);
  const FlowMatchEulerConfig defaults = scheduler(Json::object());
  EXPECT_EQ(defaults.num_train_timesteps, 1000);
  EXPECT_EQ(defaults.shift, 1.0);
  EXPECT_FALSE(defaults.use_dynamic_shifting);
  EXPECT_EQ(defaults.base_shift, 0.5);
  EXPECT_EQ(defaults.max_shift, 1.15);
  EXPECT_EQ(defaults.base_image_seq_len, 256);
  EXPECT_EQ(defaults.max_image_seq_len, 4096);
  EXPECT_FALSE(defaults.invert_sigmas);
  EXPECT_EQ(defaults.shift_terminal, 0);
  EXPECT_EQ(defaults.time_shift, FlowMatchEulerConfig::TimeShift::Exponential);
}

TEST(FlowMatchEulerConfig, RefusesByName) {
  const std::string where = "scheduler/scheduler_config.json: ";
  const auto message = [](const char* key, const Json& value) {
    return scheduler_refusal(Json{{key, value}});
  };
  for (const char* key :
       {"use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "stochastic_sampling"}) {
    EXPECT_EQ(message(key, true), where + key + " = true is not supported (only false)");
    EXPECT_EQ(message(key, false), "accepted");
    EXPECT_EQ(message(key, nullptr), "accepted");
  }
  EXPECT_EQ(message("time_shift_type", "cosine"),
            where + "time_shift_type = \"cosine\" is not supported (only exponential, linear)");
  EXPECT_EQ(message("shift", 0), where + "shift = 0 should be above 0");
  EXPECT_EQ(message("shift_terminal", 1), where + "shift_terminal = 1 should be from 0 to less than 1");
  EXPECT_EQ(message("shift_terminal", nullptr), "accepted");
  EXPECT_EQ(message("num_train_timesteps", 0), where + "num_train_timesteps = 0 should be at least 1");
  EXPECT_EQ(message("base_image_seq_len", 4096),
            where + "base_image_seq_len = max_image_seq_len = 4096 leaves no line between them");
  EXPECT_EQ(message("beta_start", 0.1), where + "unknown key beta_start = 0.1");
}

TEST(FlowMatchEuler, RefusesImpossibleSteps) {
  const auto message = [](const Json& values, const FlowMatchSteps& steps) -> std::string {
    try {
      FlowMatchEuler(scheduler(values), steps);
    } catch (const Error& e) {
      return e.what();
    }
    return "accepted";
  };
  const std::string where = "scheduler/scheduler_config.json: ";
  EXPECT_EQ(message(Json::object(), {0}), "0 steps are not possible with this scheduler");
  EXPECT_EQ(message(Json::object(), {2, {1, 0.5, 0.2}}), "3 sigmas were given for 2 steps");
  EXPECT_EQ(message(Json::object(), {1, {1.5}}), "sigma 1.5 should be from 0 (the picture) to 1 (noise)");
  EXPECT_EQ(message(Json::object(), {1, {std::numeric_limits<double>::quiet_NaN()}}),
            "sigma nan should be from 0 (the picture) to 1 (noise)");
  EXPECT_EQ(message({{"use_dynamic_shifting", true}}, {4}),
            where + "use_dynamic_shifting needs a shift for the picture's size, mu");
  EXPECT_EQ(message({{"shift_terminal", 0.1}}, {1}), where + "shift_terminal needs 2 steps or more");
}

}  // namespace
}  // namespace sagelab
