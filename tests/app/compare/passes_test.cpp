// SPDX-License-Identifier: Apache-2.0
// The seam between steps, and what a comparison makes of its runs, over a family of no weights.
#include "app/compare/passes.h"

#include <gmock/gmock.h>

#include "app/compare/report.h"
#include "attention/error.h"
#include "tests/app/fake_family.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;

class Passes : public ::testing::Test {
 protected:
  std::shared_ptr<FakeHooks> hooks_ = std::make_shared<FakeHooks>();
  Family family_ = fake_family(hooks_);
  Session session_{[this](const std::filesystem::path&) -> const Family& { return family_; }};

  Request request() const {
    Request r;
    r.model = "fake", r.prompt = "p", r.attention = "sdpa(math)";
    return family_.resolve(r);
  }
  decltype(Progress::what) end_of(JobId job) {
    for (int i = 0; i < 600; ++i) {
      auto progress = session_.wait(std::chrono::milliseconds(100));
      if (!progress || progress->job != job) continue;
      if (std::holds_alternative<Finished>(progress->what) || std::holds_alternative<Failed>(progress->what))
        return progress->what;
    }
    return Notice{"the job never ended"};
  }
  decltype(Progress::what) run(StepHooks hooks) {
    return end_of(session_.submit(request(), {}, {}, std::move(hooks)));
  }
  CompareOrder order() const { return {request(), {"sdpa(math)", "sdpa(flash)"}, false, true}; }
};

TEST_F(Passes, HooksSeeEveryStepAndMayReplaceItsLatents) {
  std::vector<std::pair<int, float>> seen;
  StepHooks hooks;
  hooks.before = [](int i) { return i == 1 ? at::full({1, 2, 4}, 7, at::kDouble) : at::Tensor(); };
  hooks.after = [&](int i, const at::Tensor& latents) {
    EXPECT_EQ(latents.scalar_type(), at::kFloat) << "in the run's dtype";
    seen.emplace_back(i, latents.max().item<float>());
  };
  ASSERT_TRUE(std::holds_alternative<Finished>(run(hooks)));
  EXPECT_EQ(seen, (std::vector<std::pair<int, float>>{{0, 0.25F}, {1, 7.F}, {2, 7.F}}));
}

TEST_F(Passes, LatentsThatDoNotFitEndTheRun) {
  StepHooks hooks;
  hooks.before = [](int) { return at::zeros({1, 2, 5}); };
  const auto end = run(hooks);
  ASSERT_TRUE(std::holds_alternative<Failed>(end));
  EXPECT_THAT(std::get<Failed>(end).message, ::testing::HasSubstr("cannot stand for"));
}

TEST_F(Passes, ARunMayEndBeforeItIsDecoded) {
  int decoded = 0;
  hooks_->decode = [&] { ++decoded; };
  StepHooks hooks;
  hooks.decode = false;
  const auto end = run(hooks);
  ASSERT_TRUE(std::holds_alternative<Finished>(end));
  const auto& frames = std::get<Finished>(end).frames;
  EXPECT_EQ(frames.picture->frames, 0);
  EXPECT_EQ(frames.report.at("steps").size(), 3u);
  EXPECT_EQ(decoded, 0);
  run({});
  EXPECT_EQ(decoded, 1);
}

TEST_F(Passes, AHooksExceptionIsTheRuns) {
  StepHooks hooks;
  hooks.after = [](int, const at::Tensor&) { throw Error("no room", "make some"); };
  const auto end = run(hooks);
  ASSERT_TRUE(std::holds_alternative<Failed>(end));
  EXPECT_EQ(std::get<Failed>(end).message, "no room");
}

TEST(Trajectory, TellsBitsFromValues) {
  Trajectory trajectory;
  const auto a = at::randn({1, 3, 4});
  trajectory.keep().after(0, a);
  const auto errors_of = [&](const at::Tensor& latents) {
    StepErrors errors;
    trajectory.compare(errors, false).after(0, latents);
    return errors;
  };
  EXPECT_TRUE(errors_of(a.clone()).identical);
  EXPECT_EQ(errors_of(a.clone()).steps.at(0).rmse, 0);
  auto other = a.clone();
  other[0][0][0] += 1e-3;
  EXPECT_FALSE(errors_of(other).identical);
  EXPECT_NEAR(errors_of(other).steps.at(0).max_abs, 1e-3, 1e-6);
  trajectory.keep().after(0, at::zeros({2}));
  EXPECT_FALSE(errors_of(-at::zeros({2})).identical) << "-0 equals 0 and has another bit";
}

TEST(Trajectory, LockedStepsStartFromTheKeptOnes) {
  Trajectory trajectory;
  const auto keep = trajectory.keep();
  auto latents = at::zeros({2});
  keep.after(0, latents);
  latents += 5;  // as an in-place sampler would
  keep.after(1, latents);
  StepErrors errors;
  const auto hooks = trajectory.compare(errors, true);
  EXPECT_FALSE(hooks.before(0).defined()) << "the noise is the same";
  EXPECT_EQ(hooks.before(1).max().item<float>(), 0);
  EXPECT_FALSE(trajectory.compare(errors, false).before);
}

TEST_F(Passes, RunInOrderOnOneModel) {
  std::vector<int> steps;
  hooks_->step = [&](int i) { steps.push_back(i); };
  int decoded = 0;
  hooks_->decode = [&] { ++decoded; };
  const auto all = run_passes(session_, order());
  EXPECT_EQ(hooks_->opened, 1);
  EXPECT_EQ(steps.size(), 5u * 3) << "a, b, a, and both checked";
  EXPECT_EQ(decoded, 3);
  ASSERT_EQ(all.runs.size(), 2u);
  EXPECT_EQ(all.runs[1].label, "b");
  EXPECT_EQ(all.again.spec, "sdpa(math)");
  EXPECT_TRUE(all.again.latents.identical);
  EXPECT_EQ(all.again.latents.steps.size(), 3u);
  ASSERT_EQ(all.checks.size(), 2u);
  EXPECT_EQ(all.checks[1].frames.report.at("attention").at("measurements").size(), 3u);
  for (const auto& run : {all.runs[0], all.runs[1], all.again})
    EXPECT_EQ(run.frames.report.at("attention").at("measurements").size(), 0u)
        << "timed runs measure nothing";
}

TEST_F(Passes, WhatIsNotAskedForIsNotRun) {
  int runs = 0;
  hooks_->step = [&](int i) { runs += i == 0 ? 1 : 0; };
  auto plain = order();
  plain.attention_errors = false;
  EXPECT_TRUE(run_passes(session_, plain).checks.empty());
  EXPECT_EQ(runs, 3);
  plain.locked = true;
  const auto locked = run_passes(session_, plain);
  EXPECT_EQ(locked.checks.size(), 2u);
  const auto figures = compare_report(locked).at("runs")[1].at("figures");
  EXPECT_TRUE(figures.at("attention").is_null());
  EXPECT_EQ(figures.at("locked_latents").size(), 3u);
}

TEST_F(Passes, AFailureNamesItsSpec) {
  int runs = 0;
  hooks_->step = [&](int i) {
    if (i == 0 && ++runs == 2) throw Error("no luck", "try again");
  };
  try {
    run_passes(session_, order());
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "--b sdpa(flash): no luck");
    EXPECT_EQ(e.hint(), "try again");
  }
}

// A floor that is not zero is shown as what it is.
TEST_F(Passes, AFloorThatIsNotIdenticalIsSaid) {
  auto all = run_passes(session_, order());
  EXPECT_EQ(floor_text(compare_report(all).at("floor")),
            "bit-identical: the latents of every step and every frame");
  auto other = *all.again.frames.picture;
  other.pixels[0] ^= 4;
  all.again.frames.picture = std::make_shared<const Picture>(other);
  auto report = compare_report(all);
  EXPECT_EQ(report.at("floor").at("identical"), false);
  EXPECT_EQ(report.at("floor").at("latents_identical"), true);
  EXPECT_EQ(report.at("floor").at("figures").at("quality").at("identical_frames"), 1);
  EXPECT_THAT(summary_of(report), ::testing::HasSubstr("a twice: NOT bit-identical: PSNR "));
  EXPECT_THAT(html_of(report, {}), ::testing::HasSubstr("NOT bit-identical"));
  all.again.latents.identical = false;
  EXPECT_EQ(compare_report(all).at("floor").at("latents_identical"), false);
}

TEST_F(Passes, TimesAreOfPlainRunsAndNoSpeedIsClaimedForAnEmulation) {
  auto all = run_passes(session_, order());
  auto report = compare_report(all);
  const auto& b = report.at("runs")[1];
  EXPECT_EQ(b.at("emulated"), false);
  const double ratio = b.at("seconds").at("median_step").get<double>() /
                       report.at("runs")[0].at("seconds").at("median_step").get<double>();
  EXPECT_DOUBLE_EQ(b.at("time_ratio").get<double>(), ratio);
  EXPECT_EQ(report.at("runs")[0].at("seconds").at("steps")[0],
            all.again.frames.report.at("steps")[0].at("seconds"));
  EXPECT_EQ(b.at("seconds").at("steps")[2], all.runs[1].frames.report.at("steps")[2].at("seconds"));
  all.order.specs[1] = "prefer(sage2,sdpa)";
  report = compare_report(run_passes(session_, all.order));
  EXPECT_EQ(report.at("runs")[1].at("served"), nlohmann::json::array({"sage2"}));
  EXPECT_EQ(report.at("runs")[1].at("emulated"), true);
  EXPECT_TRUE(report.at("runs")[1].at("time_ratio").is_null());
  EXPECT_THAT(summary_of(report), ::testing::HasSubstr("(emulated: quality, not speed)"));
  EXPECT_THAT(summary_of(report), ::testing::Not(::testing::HasSubstr("of a's time")));
}

}  // namespace
}  // namespace sagelab
