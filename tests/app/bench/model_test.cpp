// SPDX-License-Identifier: Apache-2.0
#include "app/commands/bench/model.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <chrono>
#include <limits>
#include <thread>

#include "attention/error.h"
#include "tests/app/fake_family.h"
#include "tests/app/support.h"

namespace sagelab {
namespace {

// Three blocks that show themselves, and a prediction: one of a chosen spread, and one with an infinite
// value. A known share of the time is under "linears".
BenchModel fake_model(double spread, const std::string& spread_block = "block.1",
                      const std::string& infinite = "") {
  BenchModel model;
  model.tokens = 3;
  model.flops = 2e9;
  model.latent_shape = {2, 4};
  model.forward = [=](const Forward& forward) {
    const auto drawn = [&](const std::string& name) {
      auto x = at::randn({64, 64}).mul_(name == spread_block ? spread : 1);
      if (name == infinite) x[3][5] = std::numeric_limits<float>::infinity();
      return x;
    };
    {
      const Profile::Section section(forward.profile, "attention");
      testing::attend(forward);
    }
    {
      const Profile::Section section(forward.profile, "linears");
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (forward.observe) {
      forward.observe("temb", at::full({2}, 1e9));  // no block: not judged
      for (const char* name : {"block.0", "block.1", "single.0"}) forward.observe(name, drawn(name));
    }
    return drawn("the prediction");
  };
  return model;
}

BenchSettings settings(std::vector<std::string> specs) {
  return {.attention = std::move(specs), .target = {}, .warmup = 1, .repeat = 3};
}

std::string failure_of(const BenchModel& model) {
  try {
    bench_model(model, settings({"sdpa(math)"}));
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(BenchModelTest, TimesProfilesAndCompares) {
  const auto model = fake_model(1);
  const auto rows = bench_model(model, settings({"sdpa(math)", "reference"}));
  ASSERT_EQ(rows.size(), 2u);
  for (const auto& row : rows) {
    EXPECT_LE(row.min, row.median);
    EXPECT_LE(row.median, row.max);
    EXPECT_GT(row.min, 0.030);
    EXPECT_EQ(row.blocks, 3);
    EXPECT_NEAR(row.std_high, 1, 0.1);
    EXPECT_GE(row.profile.at("linears"), 0.020);
    EXPECT_GE(row.profile.at("rest"), 0.010);
    EXPECT_GT(row.profile.at("attention"), 0);
    double sum = 0;
    for (const auto& [section, seconds] : row.profile) sum += seconds;
    EXPECT_NEAR(sum, row.profiled, 1e-3);
  }
  EXPECT_EQ(rows[0].served, "sdpa(math) x 1");
  EXPECT_EQ(rows[1].served, "reference x 1");

  const BenchTitle title{"fake", "1b", "a CPU", "fp32", {1024, "bf16", 1e12}};
  const auto json = bench_json(title, model, rows);
  EXPECT_EQ(json.at("rows")[0].at("ratio"), 1.0);
  EXPECT_DOUBLE_EQ(json.at("rows")[1].at("ratio").get<double>(), rows[0].median / rows[1].median);
  EXPECT_DOUBLE_EQ(json.at("rows")[0].at("flops_per_second").get<double>(), 2e9 / rows[0].median);
  const auto table = bench_table(title, model, rows);
  EXPECT_NE(table.find("fake 1b with random weights, fp32, a CPU"), std::string::npos) << table;
  EXPECT_NE(table.find("1024^3 bf16 matmul: 1 TFLOP/s"), std::string::npos) << table;
  EXPECT_NE(table.find("profile of reference (served: reference x 1)"), std::string::npos) << table;
}

TEST(BenchModelTest, BrokenBlocksFail) {
  EXPECT_EQ(failure_of(fake_model(1)), "no error");
  for (const std::string name : {"block.1", "single.0", "the prediction"})
    EXPECT_EQ(failure_of(fake_model(1, "block.1", name)),
              name + " with sdpa(math): the output holds values that are not finite");
  for (const std::string name : {"block.1", "single.0"}) {
    EXPECT_THAT(
        failure_of(fake_model(1e3, name)),
        ::testing::MatchesRegex(name + " with sdpa\\(math\\): the output's standard deviation .* leaves "
                                       "\\[0.01, 100\\]"));
    EXPECT_THAT(failure_of(fake_model(1e-3, name)), ::testing::HasSubstr("standard deviation"));
  }
  EXPECT_EQ(failure_of(fake_model(1e-3, "the prediction")), "no error");  // it may be small
}

TEST(BenchModelTest, AModelThatShowsNothingIsNotPassed) {
  auto model = fake_model(1);
  model.forward = [](const Forward&) { return at::zeros({1}); };
  EXPECT_EQ(failure_of(model), "the model shows no block to check");
}

TEST(BenchModelTest, MatmulRateIsPlausible) {
  const auto rate = matmul_rate({}, 128);
  EXPECT_EQ(rate.size, 128);
  EXPECT_GT(rate.flops_per_second, 1e7);
  EXPECT_LT(rate.flops_per_second, 1e15);
}

}  // namespace
}  // namespace sagelab
