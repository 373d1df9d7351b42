// SPDX-License-Identifier: Apache-2.0
#include "ui/job.h"

#include <gtest/gtest.h>

namespace sagelab::ui {
namespace {

TEST(Job, TheMedianLeavesOutTheFirstOfMoreThanTwoSteps) {
  Job job;
  EXPECT_TRUE(std::isnan(job.median_step()));
  job.step_times = {{9, "a"}};
  EXPECT_DOUBLE_EQ(job.median_step(), 9);
  job.step_times = {{9, "a"}, {1, "a"}};
  EXPECT_DOUBLE_EQ(job.median_step(), 5);
  job.step_times = {{9, "a"}, {1, "a"}, {2, "a"}, {4, "a"}};
  EXPECT_DOUBLE_EQ(job.median_step(), 2);
}

TEST(Job, WhatIsLeftOfDenoisingIsByItsSteps) {
  Job job;
  job.status = Job::Status::Running;
  job.phases = {{"denoise", 100, NAN, 0, 1}};
  job.steps = 10;
  job.step_begun = 105;
  EXPECT_TRUE(std::isnan(job.phase_left(105)));
  job.step_times = {{3, "sdpa"}, {1, "sdpa"}, {1, "sdpa"}};
  EXPECT_DOUBLE_EQ(job.phase_left(105), 7);
  EXPECT_DOUBLE_EQ(job.progress(), .3);
  job.step_times.push_back({.25, "sage2"});
  job.switches = {{3, "sdpa", "sage2"}};
  EXPECT_DOUBLE_EQ(job.phase_left(105), 6 * .25) << "after a switch its own steps tell";
}

TEST(Job, WhatIsLeftOfDenoisingPassesWithinAStep) {
  Job job;
  job.status = Job::Status::Running;
  job.phases = {{"denoise", 100, NAN, 0, 1}};
  job.steps = 4;
  job.step_begun = 100;
  job.expected = 8;
  EXPECT_DOUBLE_EQ(job.phase_left(100), 8) << "before the first step what was foretold tells";
  EXPECT_DOUBLE_EQ(job.phase_left(101.5), 6.5);
  EXPECT_DOUBLE_EQ(job.phase_left(110), 6) << "the steps after one that takes long are still to come";
  job.step_times = {{3, "sdpa"}};
  job.step_begun = 110;
  EXPECT_DOUBLE_EQ(job.phase_left(111), 8) << "from then on its own steps tell";
  job.step_times.assign(3, {3, "sdpa"});
  EXPECT_DOUBLE_EQ(job.phase_left(111), 2);
  EXPECT_DOUBLE_EQ(job.phase_left(120), 0);
  job.step_times.assign(4, {3, "sdpa"});
  EXPECT_DOUBLE_EQ(job.phase_left(111), 0) << "no step goes on";
}

TEST(Job, WhatIsLeftOfAnotherPhaseIsByItsUnits) {
  Job job;
  job.status = Job::Status::Running;
  job.phases = {{"load", 0, 4, 8, 8}, {"decode", 10, NAN, 1, 5}};
  EXPECT_DOUBLE_EQ(job.phase_left(12), 8);
  EXPECT_DOUBLE_EQ(job.progress(), .2);
  EXPECT_DOUBLE_EQ(job.seconds(12), 12);
  job.phases.back().ended = 13;
  EXPECT_TRUE(std::isnan(job.phase_left(20)));
  EXPECT_DOUBLE_EQ(job.seconds(20), 13);
}

TEST(Job, Texts) {
  EXPECT_EQ(clock_text(NAN), "-");
  EXPECT_EQ(clock_text(6.2), "0:07");
  EXPECT_EQ(clock_text(723), "12:03");
  EXPECT_EQ(clock_text(3723), "1:02:03");
  EXPECT_EQ(bytes_text(12), "12 bytes");
  EXPECT_EQ(bytes_text(431'000'000), "431 MB");
  EXPECT_EQ(bytes_text(11'140'000'000), "11.14 GB");
  EXPECT_EQ(last_backend("sdpa -> sage2"), "sage2");
  EXPECT_EQ(last_backend("sdpa"), "sdpa");
}

}  // namespace
}  // namespace sagelab::ui
