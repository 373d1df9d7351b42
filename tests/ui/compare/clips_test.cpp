// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/clips.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/ui/compare/states.h"
#include "ui/compare/transport.h"

namespace sagelab::ui {
namespace {

Job making(Id id) {
  Job job;
  job.id = id, job.status = Job::Status::Running, job.attention = "sage2", job.steps = 30;
  job.request.num_frames = 16;
  job.request.fps = 8;
  job.request.device = "cuda";
  job.step_times = {{.5, "sage2"}, {.1, "sage2"}, {.1, "sage2"}};
  job.preview = plain_picture(4, 8, 4, 50);
  return job;
}

TEST(Clips, AreResultsAndPreviewsInTheirPlaces) {
  auto state = two_results();
  state.jobs = {making(5)};
  state.compared = {1, 0, 5};
  const auto clips = clips_of(state);
  ASSERT_EQ(clips.size(), 2u);
  EXPECT_EQ(clips[0].letter, 'A');
  EXPECT_FALSE(clips[0].making);
  EXPECT_EQ(clips[1].letter, 'C');
  EXPECT_TRUE(clips[1].making);
  EXPECT_DOUBLE_EQ(clips[1].time.fps, 2);  // its 4 frames last as long as 16 at 8 a second
  EXPECT_DOUBLE_EQ(seconds_of(clips[1].time), seconds_of(clips[0].time));
  EXPECT_EQ(shot_of(clips[1], 1.3).frame, 2);
  EXPECT_EQ(shot_of(clips[0], 1.3).frame, 10);
  EXPECT_DOUBLE_EQ(leading(clips).fps, 8);
  EXPECT_EQ(extent_of(clips), (Extent{16, 8}));
}

TEST(Clips, TheLongestLeads) {
  auto state = two_results();
  state.results[1].frames.fps = 4;
  EXPECT_DOUBLE_EQ(leading(clips_of(state)).fps, 4);
  EXPECT_EQ(leading({}).frames, 0);
}

TEST(Clips, WhatHasNoPictureIsSaid) {
  State state;
  Job running = making(1), waiting = making(2), failed = making(3);
  running.preview = waiting.preview = failed.preview = nullptr;
  running.phases = {{"load", 0, NAN, 0, 1}};
  waiting.status = Job::Status::Waiting;
  failed.status = Job::Status::Failed;
  state.jobs = {running, waiting, failed};
  state.compared = {1, 2, 3};
  EXPECT_TRUE(clips_of(state).empty());
  EXPECT_EQ(missing_of(state), (std::vector<std::string>{"A: load", "B: waits for its turn", "C: failed"}));
}

TEST(Titles, SayWhatItIs) {
  auto state = two_results();
  state.jobs = {making(5)};
  state.compared = {1, 5, 0};
  const auto clips = clips_of(state);
  EXPECT_EQ(title_of(state, clips[0]), "A  sdpa, seed 7");
  EXPECT_EQ(title_of(state, clips[1]), "B  sage2, step 3 of 30");
  state.jobs[0].status = Job::Status::Cancelled;
  EXPECT_EQ(title_of(state, clips[1]), "B  sage2, step 3 of 30, cancelled");
}

TEST(Speed, IsComparedToTheFirst) {
  const auto state = two_results();
  const auto clips = clips_of(state);
  EXPECT_EQ(speed_text(state, clips[0], clips[0]), "300 ms a step");
  EXPECT_EQ(speed_text(state, clips[1], clips[0]), "200 ms a step, 1.50x as fast as A");
}

TEST(Speed, OfWhatIsEmulatedClaimsNothing) {
  auto state = two_results();
  state.results[1].emulated = true;
  const auto clips = clips_of(state);
  EXPECT_EQ(speed_text(state, clips[1], clips[0]),
            "200 ms a step, emulated on the CPU: no measure of its speed");
  EXPECT_EQ(speed_text(state, clips[0], clips[1]), "300 ms a step");  // nor against it
}

TEST(Speed, OfOtherWorkIsNotCompared) {
  auto state = two_results();
  state.results[1].frames.request.width = 64;
  EXPECT_EQ(speed_text(state, clips_of(state)[1], clips_of(state)[0]), "200 ms a step");
  state = two_results();
  state.results[1].frames.request.device = "cpu";
  EXPECT_EQ(speed_text(state, clips_of(state)[1], clips_of(state)[0]), "200 ms a step");
  state = two_results();
  state.results[1].frames.request.attention = "sage2";  // this is what is compared
  EXPECT_NE(speed_text(state, clips_of(state)[1], clips_of(state)[0]).find("1.50x"), std::string::npos);
  state.results[1].median_step = NAN;
  EXPECT_EQ(speed_text(state, clips_of(state)[1], clips_of(state)[0]), "");
}

TEST(Speed, OfWhatIsBeingMadeIsThatOfItsSteps) {
  auto state = two_results();
  state.jobs = {making(5)};
  state.compared = {1, 5, 0};
  auto clips = clips_of(state);
  EXPECT_EQ(speed_text(state, clips[1], clips[1]), "100 ms a step");
  state.jobs[0].request.device = "cpu";
  EXPECT_NE(speed_text(state, clips[1], clips[0]).find("emulated"), std::string::npos);
  state.jobs[0].attention = "check(sage2,sdpa)";
  EXPECT_EQ(speed_text(state, clips[1], clips[0]), "");
}

TEST(Readout, HasAllValuesAndWhatDiffers) {
  const auto clips = clips_of(two_results());
  EXPECT_EQ(readout(clips, .5, {3.7, 4.2}), "x 3 y 4   A 100 4 0   B 110 4 0   B-A +10 +0 +0");
  EXPECT_EQ(readout(clips, 0, {16, 4}), "");
  EXPECT_EQ(readout({clips[1]}, 0, {0, 0}), "x 0 y 0   B 110 0 0");
}

TEST(Readout, IsNeverWiderThanItsWidest) {
  auto state = two_results();
  state.results.push_back(result_of(3, plain_picture(1, 16, 8, 255), .3));
  state.compared = {1, 2, 3};
  const auto clips = clips_of(state);
  EXPECT_EQ(
      widest_readout(clips),
      "x 16 y 8   A 888 888 888   B 888 888 888   C 888 888 888   B-A -888 -888 -888   C-A -888 -888 -888");
  EXPECT_LE(readout(clips, 1.9, {15, 7}).size(), widest_readout(clips).size());
}

TEST(ToMeasure, IsWhatNobodyAskedFor) {
  using Pairs = std::vector<std::pair<Id, Id>>;
  auto state = two_results();
  EXPECT_EQ(to_measure(state, clips_of(state)), (Pairs{{2, 1}}));
  state.results.push_back(result_of(3, plain_picture(16, 16, 8, 100), .3));
  state.results.back().repeats = 1;
  EXPECT_EQ(to_measure(state, clips_of(state)), (Pairs{{2, 1}, {3, 1}}));
  state.qualities = {{2, 1, true, {}, {}, 0, ""}};
  EXPECT_EQ(to_measure(state, clips_of(state)), (Pairs{{3, 1}}));
  state.compared = {1, 0, 0};
  state.qualities.push_back({3, 1, false, {}, {}, 0, ""});
  EXPECT_TRUE(to_measure(state, clips_of(state)).empty());
  EXPECT_TRUE(to_measure(state, {}).empty());
}

TEST(StripRows, HaveTheFloorBeside) {
  auto state = two_results();
  state.qualities = {{2, 1, false, {30, 40}, {.9, 1}, 0, ""}};
  auto rows = strip_rows(state, clips_of(state));
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(row_text(rows[0], -1), "B to A: PSNR 35.0 dB, SSIM 0.9500");
  EXPECT_EQ(row_text(rows[0], 1), "B to A: PSNR 40.0 dB, SSIM 1.0000");
  EXPECT_EQ(row_text(rows[0], 2), "B to A: PSNR -, SSIM -");
  state.results.push_back(result_of(3, plain_picture(16, 16, 8, 100), .3));
  state.results.back().repeats = 1;
  state.qualities.push_back({3, 1, false, {INFINITY, INFINITY}, {1, 1}, 2, ""});
  state.qualities[0].pending = true;
  rows = strip_rows(state, clips_of(state));
  EXPECT_EQ(row_text(rows[0], -1), "B to A: being measured; A again: PSNR equal, SSIM 1.0000");
}

}  // namespace
}  // namespace sagelab::ui
