// SPDX-License-Identifier: Apache-2.0
#include "ui/metrics/figures.h"

#include <gtest/gtest.h>

#include <cmath>

namespace sagelab::ui {
namespace {

Job job_of(Id id, const std::vector<StepTime>& steps, const std::string& device = "cuda") {
  Job job;
  job.id = id;
  job.step_times = steps;
  job.request.device = device;
  return job;
}

Result result_of(Id id, Id repeats = 0) {
  Result result;
  result.id = id, result.repeats = repeats;
  return result;
}

TEST(JobsToShow, TheCanvasThenWhatRuns) {
  State state;
  state.jobs = {job_of(1, {}), job_of(2, {}), job_of(3, {{1, "sdpa"}})};
  state.jobs[1].status = Job::Status::Running;
  state.compared = {3, 1, 0};
  const auto jobs = jobs_to_show(state);
  ASSERT_EQ(jobs.size(), 3u);
  EXPECT_EQ(jobs[0]->id, 3u);
  EXPECT_EQ(jobs[1]->id, 1u);
  EXPECT_EQ(jobs[2]->id, 2u);
  state.compared = {2, 0, 0};
  EXPECT_EQ(jobs_to_show(state).size(), 1u);
}

TEST(JobsToShow, WithoutEitherTheLastThatHasSteps) {
  State state;
  state.jobs = {job_of(1, {{1, "sdpa"}}), job_of(2, {{1, "sdpa"}}), job_of(3, {})};
  ASSERT_EQ(jobs_to_show(state).size(), 1u);
  EXPECT_EQ(jobs_to_show(state)[0]->id, 2u);
  EXPECT_TRUE(jobs_to_show(State{}).empty());
}

TEST(BackendTimes, TheFirstStepWarmsUpAndMixedStepsCountForNobody) {
  const auto job = job_of(1, {{9, "sdpa"}, {2, "sdpa"}, {4, "sdpa"}, {7, "sdpa -> sage2"}, {1, "sage2"}});
  const auto times = backend_times({&job});
  ASSERT_EQ(times.size(), 2u);
  EXPECT_EQ(times[0].backend, "sage2");
  EXPECT_EQ(times[0].steps, 1);
  EXPECT_EQ(times[1].backend, "sdpa");
  EXPECT_EQ(times[1].steps, 2);
  EXPECT_DOUBLE_EQ(times[1].median, 3);
  EXPECT_DOUBLE_EQ(times[1].fastest, 2);
  EXPECT_DOUBLE_EQ(times[1].slowest, 4);
  EXPECT_FALSE(times[0].emulated);
}

TEST(BackendTimes, Sage2OnACpuIsEmulatedAndStaysApart) {
  const auto cpu = job_of(1, {{8, "sage2"}}, "cpu"), gpu = job_of(2, {{1, "sage2"}}, "cuda");
  const auto times = backend_times({&cpu, &gpu});
  ASSERT_EQ(times.size(), 2u);
  EXPECT_FALSE(times[0].emulated);
  EXPECT_DOUBLE_EQ(times[0].median, 1);
  EXPECT_TRUE(times[1].emulated);
  EXPECT_DOUBLE_EQ(times[1].median, 8);
  const auto sdpa = job_of(3, {{1, "sdpa"}}, "cpu");
  EXPECT_FALSE(backend_times({&sdpa})[0].emulated);
}

TEST(PhaseSums, TurnsOfAPhaseAddUpAndTheLastOneGoesOn) {
  Job job;
  job.phases = {
      {"load", 1, 3, 1, 1}, {"denoise", 3, 5, 1, 1}, {"load", 5, 6, 1, 1}, {"denoise", 6, NAN, 0, 1}};
  const auto sums = phase_sums(job, 10);
  ASSERT_EQ(sums.size(), 2u);
  EXPECT_EQ(sums[0].name, "load");
  EXPECT_DOUBLE_EQ(sums[0].seconds, 3);
  EXPECT_FALSE(sums[0].goes_on);
  EXPECT_DOUBLE_EQ(sums[1].seconds, 6);
  EXPECT_TRUE(sums[1].goes_on);
}

State two_results() {
  State state;
  state.results = {result_of(5), result_of(7)};
  state.compared = {5, 7, 0};
  state.qualities = {{7, 5, false, {30, INFINITY, 20}, {.5, 1, .75}, 1, ""}};
  return state;
}

TEST(QualityTable, MeansOfFiniteFramesAndTheWorstOne) {
  const auto table = quality_table(two_results());
  ASSERT_EQ(table.rows.size(), 1u);
  EXPECT_EQ(table.rows[0].pair, "B to A");
  EXPECT_EQ(table.rows[0].psnr, "25.00 dB");
  EXPECT_EQ(table.rows[0].ssim, "0.7500");
  EXPECT_EQ(table.rows[0].worst, "frame 3: 20.00 dB");
  EXPECT_EQ(table.rows[0].identical, "1 of 3");
  EXPECT_EQ(table.floor.problem, "not made yet");
  EXPECT_EQ(table.first, 5u);
}

TEST(QualityTable, TheFloorStandsBeside) {
  auto state = two_results();
  state.results.push_back(result_of(9, 5));
  state.qualities.push_back({9, 5, false, {INFINITY, INFINITY}, {1, 1}, 2, ""});
  const auto table = quality_table(state);
  EXPECT_EQ(table.floor.pair, "A again");
  EXPECT_EQ(table.floor.psnr, "equal");
  EXPECT_EQ(table.floor.ssim, "1.0000");
  EXPECT_EQ(table.floor.worst, "");
  EXPECT_EQ(table.floor.identical, "2 of 2");
  EXPECT_EQ(table.first, 0u);
}

TEST(QualityTable, WhatIsOnItsWayIsNotAskedForAgain) {
  auto state = two_results();
  state.qualities[0].pending = true;
  Job again;
  again.id = 11, again.repeats = 5;
  state.jobs = {again};
  auto table = quality_table(state);
  EXPECT_EQ(table.rows[0].problem, "being measured");
  EXPECT_EQ(table.floor.problem, "being made");
  EXPECT_EQ(table.first, 0u);
  state.jobs[0].status = Job::Status::Cancelled;
  EXPECT_EQ(quality_table(state).first, 5u);
  state.qualities[0] = {7, 5, false, {}, {}, 0, "sizes differ"};
  EXPECT_EQ(quality_table(state).rows[0].problem, "sizes differ");
  state.compared = {};
  EXPECT_EQ(quality_table(state).first, 0u);
}

TEST(ShortName, IsThePlaceInTheCanvas) {
  State state;
  state.compared = {4, 0, 6};
  EXPECT_EQ(short_name(state, 4), "A");
  EXPECT_EQ(short_name(state, 6), "C");
  EXPECT_EQ(short_name(state, 12), "#12");
  EXPECT_EQ(short_name(state, 0), "#0");
}

}  // namespace
}  // namespace sagelab::ui
