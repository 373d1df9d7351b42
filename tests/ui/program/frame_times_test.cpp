// SPDX-License-Identifier: Apache-2.0
#include "app/gui/frame_times.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace sagelab::gui {
namespace {

FrameTime frame(double draw, double show = 0) {
  FrameTime time;
  time.parts[size_t(Part::Draw)] = {draw, draw * 2};
  time.parts[size_t(Part::Show)] = {show, show};
  return time;
}

TEST(FrameTimes, OwnWorkIsAllButWhatGlTakes) {
  auto time = frame(.001, .5);
  time.parts[size_t(Part::Execute)] = {.002, .003};
  EXPECT_DOUBLE_EQ(time.own().processor, .003);
  EXPECT_DOUBLE_EQ(time.own().clock, .005);
}

TEST(FrameTimes, HaveTheirMostAndTheirParts) {
  FrameTimes times;
  EXPECT_EQ(times.own_at(.99), 0);
  for (int i = 1; i <= 100; ++i) times.add(frame(i * 1e-4 - 1e-6));
  times.add(frame(.5));
  EXPECT_EQ(times.frames(), 101);
  EXPECT_NEAR(times.own_at(.5), .0051, 1e-5);
  EXPECT_NEAR(times.own_at(.99), .01, 1e-5);
  EXPECT_DOUBLE_EQ(times.longest_own(), .5);
  EXPECT_DOUBLE_EQ(times.own_at(1), .5);
  EXPECT_NEAR(times.mean_own(), (.5 + .505) / 101, 1e-5);
  EXPECT_EQ(FrameTimes().text().substr(0, 8), "0 frames");
  EXPECT_EQ(times.text(),
            "101 frames, own work 9.95 ms of processor on average, 10.00 ms for 99 of 100, 500.00 ms at most "
            "(draw 500.00); by the clock 1000.00 ms at most");
}

TEST(FrameTimer, SleepTakesNoProcessor) {
  FrameTimer timer;
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  timer.end(Part::Update);
  volatile double sum = 0;
  for (int i = 0; i < 2000000; ++i) sum = sum + i;
  timer.end(Part::Draw);
  const auto& slept = timer.time().parts[size_t(Part::Update)];
  const auto& worked = timer.time().parts[size_t(Part::Draw)];
  EXPECT_GE(slept.clock, .03);
  EXPECT_LT(slept.processor, .01);
  EXPECT_GT(worked.processor, .0005);
  EXPECT_LE(worked.processor, worked.clock + .001);
}

TEST(ProcessAge, Grows) {
  const double before = process_age();
  EXPECT_GT(before, 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_NEAR(process_age() - before, .05, .04);
}

}  // namespace
}  // namespace sagelab::gui
