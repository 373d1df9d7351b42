// SPDX-License-Identifier: Apache-2.0
#include "ui/state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sagelab::ui {
namespace {

using testing::ElementsAre;

State state_with_job() {
  State state;
  Job job;
  job.id = 7, job.session = 1, job.status = Job::Status::Running;
  state.jobs = {job};
  return state;
}

Request resolved() {
  Request request;
  request.steps = 4, request.seed = 5, request.attention = "sdpa", request.device = "cpu";
  return request;
}

Frames frames_of(const Request& request) {
  auto picture = std::make_shared<Picture>();
  picture->frames = picture->height = picture->width = 1;
  picture->pixels = {1, 2, 3};
  return {picture, 8, request, nlohmann::json::object()};
}

TEST(Fold, StartedTellsWhatIsResolved) {
  auto state = state_with_job();
  fold(state, {1, Started{resolved()}});
  EXPECT_EQ(state.jobs[0].request.seed, 5u);
  EXPECT_EQ(state.jobs[0].attention, "sdpa");
  EXPECT_EQ(state.jobs[0].steps, 4);
  EXPECT_EQ(state.running(), &state.jobs[0]);
  EXPECT_TRUE(state.busy());
}

TEST(Fold, WordsOfAnotherJobChangeNothing) {
  auto state = state_with_job();
  fold(state, {2, Started{resolved()}});
  fold(state, {0, Notice{"x"}});
  EXPECT_EQ(state.jobs[0].steps, 0);
  EXPECT_TRUE(state.log.empty());
}

TEST(Fold, PhasesKeepTheirSeconds) {
  auto state = state_with_job();
  state.now = 10;
  fold(state, {1, Phase{"load", 0, 8}});
  state.now = 12;
  fold(state, {1, Phase{"load", 8, 8}});
  state.now = 15;
  fold(state, {1, Phase{"denoise", 0, 1}});
  const auto& phases = state.jobs[0].phases;
  ASSERT_EQ(phases.size(), 2u);
  EXPECT_EQ(phases[0].begun, 10);
  EXPECT_EQ(phases[0].ended, 12) << "it ended when its last unit was done, not when the next began";
  EXPECT_TRUE(std::isnan(phases[1].ended));
  EXPECT_EQ(state.jobs[0].phase(), "denoise");
}

TEST(Fold, AnUnfinishedPhaseEndsWhereTheNextBegins) {
  auto state = state_with_job();
  fold(state, {1, Phase{"encode", 0, 2}});
  state.now = 3;
  fold(state, {1, Phase{"load", 0, 5}});
  EXPECT_EQ(state.jobs[0].phases[0].ended, 3);
}

TEST(Fold, ALoadWithinDenoisingIsFollowedByDenoising) {
  auto state = state_with_job();
  fold(state, {1, Phase{"denoise", 0, 1}});
  fold(state, {1, Phase{"load", 5, 5}});
  EXPECT_EQ(state.jobs[0].phase(), "load");
  fold(state, {1, Step{1, 2, 1, "sdpa", nullptr}});
  EXPECT_EQ(state.jobs[0].phase(), "denoise");
  EXPECT_DOUBLE_EQ(state.jobs[0].progress(), .5);
  EXPECT_DOUBLE_EQ(state.jobs[0].phase_left(0), 1);
  fold(state, {1, Step{2, 2, 1, "sdpa", nullptr}});
  EXPECT_EQ(state.jobs[0].phases.size(), 3u);
}

TEST(Fold, AStepBeginsWithDenoisingAndWhereTheFormerEnded) {
  auto state = state_with_job();
  state.jobs[0].steps = 3, state.jobs[0].expected = 6;
  state.now = 10;
  fold(state, {1, Phase{"denoise", 0, 1}});
  EXPECT_DOUBLE_EQ(state.jobs[0].phase_left(11), 5);
  state.now = 14;
  fold(state, {1, Step{1, 3, 4, "sdpa", nullptr}});
  EXPECT_DOUBLE_EQ(state.jobs[0].phase_left(15), 7);
}

TEST(Fold, StepsAndSwitches) {
  auto state = state_with_job();
  const auto preview = frames_of(resolved()).picture;
  fold(state, {1, Step{1, 6, .5, "sdpa", preview}});
  fold(state, {1, Step{2, 6, .4, "sdpa", nullptr}});
  fold(state, {1, Step{3, 6, .3, "sage2", nullptr}});
  fold(state, {1, Step{4, 6, .3, "sage2 -> sdpa", nullptr}});
  fold(state, {1, Step{5, 6, .4, "sdpa", nullptr}});
  const auto& job = state.jobs[0];
  EXPECT_EQ(job.preview, preview) << "a step without one leaves the former";
  EXPECT_EQ(job.steps, 6);
  ASSERT_EQ(job.step_times.size(), 5u);
  ASSERT_EQ(job.switches.size(), 2u);
  EXPECT_EQ(job.switches[0].step, 2);
  EXPECT_EQ(job.switches[0].from, "sdpa");
  EXPECT_EQ(job.switches[0].to, "sage2");
  EXPECT_EQ(job.switches[1].step, 3);
  EXPECT_EQ(job.switches[1].to, "sdpa");
}

TEST(Fold, FinishedMakesAResult) {
  auto state = state_with_job();
  fold(state, {1, Started{resolved()}});
  for (int i = 1; i <= 4; ++i) fold(state, {1, Step{i, 4, double(i), i < 3 ? "sdpa" : "sage2", nullptr}});
  state.now = 9;
  fold(state, {1, Finished{frames_of(resolved())}});
  EXPECT_EQ(state.jobs[0].status, Job::Status::Done);
  EXPECT_FALSE(state.busy());
  const auto* result = state.result(7);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->title, "sdpa -> sage2, seed 5");
  EXPECT_TRUE(result->emulated) << "sage2 on a CPU is emulated";
  EXPECT_DOUBLE_EQ(result->median_step, 3);
}

TEST(Fold, OnlySage2OnACpuIsEmulated) {
  for (const auto& [device, backend, emulated] :
       {std::tuple{"cpu", "sdpa", false}, {"cuda:0", "sage2", false}, {"cpu", "check(sage2,sdpa)", true}}) {
    auto state = state_with_job();
    auto request = resolved();
    request.device = device;
    fold(state, {1, Step{1, 1, 1, backend, nullptr}});
    fold(state, {1, Finished{frames_of(request)}});
    EXPECT_EQ(state.results[0].emulated, emulated) << device << " " << backend;
  }
}

TEST(Fold, AMeasuredRunSaysNothingOfTheClockAndKeepsItsErrors) {
  auto state = state_with_job();
  auto request = resolved();
  request.attention = "check(sage2,sdpa)";
  auto frames = frames_of(request);
  frames.report = {{"attention",
                    {{"measurements",
                      {{{"site", {{"step", 1}, {"layer", 2}}},
                        {"a", "sage2"},
                        {"b", "sdpa"},
                        {"cosine", .99},
                        {"relative_l1", .02},
                        {"rmse", .1},
                        {"max_abs", nullptr}}}}}}};
  fold(state, {1, Step{1, 1, 1, "sage2", nullptr}});
  fold(state, {1, Finished{frames}});
  EXPECT_TRUE(std::isnan(state.results[0].median_step));
  ASSERT_EQ(state.jobs[0].measured.size(), 1u);
  EXPECT_EQ(state.jobs[0].measured[0].layer, 2);
  EXPECT_DOUBLE_EQ(state.jobs[0].measured[0].relative_l1, .02);
  EXPECT_TRUE(std::isnan(state.jobs[0].measured[0].max_abs));
}

TEST(Fold, AFailureIsADialogAndACancellationIsNone) {
  auto state = state_with_job();
  fold(state, {1, Failed{"no room", "take less", false, "/l.safetensors"}});
  EXPECT_EQ(state.jobs[0].status, Job::Status::Failed);
  EXPECT_EQ(state.jobs[0].latents, "/l.safetensors");
  ASSERT_EQ(state.dialogs.size(), 1u);
  EXPECT_EQ(state.dialogs[0].what, "no room");
  EXPECT_EQ(state.dialogs[0].hint, "take less");

  auto other = state_with_job();
  fold(other, {1, Failed{"interrupted", "", true, ""}});
  EXPECT_EQ(other.jobs[0].status, Job::Status::Cancelled);
  EXPECT_TRUE(other.dialogs.empty());
  EXPECT_FALSE(other.busy());
}

TEST(State, TheFloorIsOfTheRepetition) {
  State state;
  Result a, again, b;
  a.id = 1, again.id = 2, again.repeats = 1, b.id = 3;
  state.results = {a, again, b};
  EXPECT_EQ(state.floor(1), nullptr);
  state.qualities = {{3, 1, false, {30}, {.9}, 0, ""}, {2, 1, false, {INFINITY}, {1}, 1, ""}};
  ASSERT_TRUE(state.floor(1));
  EXPECT_EQ(state.floor(1)->a, 2u);
  EXPECT_THAT(state.quality(3, 1)->psnr, ElementsAre(30));
  EXPECT_EQ(state.quality(1, 3), nullptr);
  EXPECT_EQ(state.floor(3), nullptr);
  EXPECT_EQ(state.result(0), nullptr);
}

}  // namespace
}  // namespace sagelab::ui
