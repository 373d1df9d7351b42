// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/maths/clock.h"

#include <gtest/gtest.h>

namespace sagelab::ui {
namespace {

TEST(FrameAt, IsTheOneThatIsDue) {
  const ClipTime clip{8, 17};
  EXPECT_EQ(frame_at(clip, 0), 0);
  EXPECT_EQ(frame_at(clip, .124), 0);
  EXPECT_EQ(frame_at(clip, .125), 1);
  EXPECT_EQ(frame_at(clip, 1.99), 15);
  EXPECT_EQ(frame_at(clip, 2), 16);
  EXPECT_EQ(frame_at(clip, 99), 16);
  EXPECT_EQ(frame_at(clip, -1), 0);
  EXPECT_EQ(frame_at({8, 0}, 1), 0);
}

TEST(FrameAt, SurvivesEveryRoundTrip) {
  for (const double fps : {7., 8., 12.5, 23.976, 24., 29.97, 30.})
    for (int i = 0; i < 2000; ++i) EXPECT_EQ(frame_at({fps, 2000}, time_of({fps, 2000}, i)), i) << fps;
}

TEST(FrameAt, ClipsOfOtherRatesShowTheSameMoment) {
  EXPECT_EQ(frame_at({8, 16}, 1.26), 10);
  EXPECT_EQ(frame_at({24, 48}, 1.26), 30);
  EXPECT_DOUBLE_EQ(seconds_of({8, 16}), seconds_of({24, 48}));
}

Clock clock_of(double fps, int frames) {
  Clock clock;
  clock.set_clip({fps, frames});
  clock.tick(100);
  return clock;
}

TEST(Clock, StandsUntilItPlays) {
  auto clock = clock_of(10, 20);
  clock.tick(101);
  EXPECT_EQ(clock.time(), 0);
  clock.play(true);
  clock.tick(101.5);
  EXPECT_DOUBLE_EQ(clock.time(), .5);
  EXPECT_EQ(clock.frame(), 5);
  clock.play(false);
  clock.tick(103);
  EXPECT_DOUBLE_EQ(clock.time(), .5);
}

TEST(Clock, LoopsOrStopsAtTheEnd) {
  auto clock = clock_of(10, 20);
  clock.play(true);
  clock.tick(102.5);
  EXPECT_DOUBLE_EQ(clock.time(), .5);
  EXPECT_TRUE(clock.playing());
  clock.loop(false);
  clock.tick(110);
  EXPECT_FALSE(clock.playing());
  EXPECT_EQ(clock.frame(), 19);
  clock.play(true);
  EXPECT_EQ(clock.frame(), 0);
}

TEST(Clock, PlaysOnceThoughItLoops) {
  auto clock = clock_of(10, 20);
  clock.seek(1);
  clock.play_once();
  EXPECT_EQ(clock.time(), 0);
  clock.tick(101.9);
  EXPECT_TRUE(clock.playing());
  clock.tick(102.1);
  EXPECT_FALSE(clock.playing());
  EXPECT_EQ(clock.frame(), 19);
  clock.play(true);
  clock.tick(104.2);
  EXPECT_TRUE(clock.playing());
  EXPECT_EQ(clock.frame(), 1);
  clock.seek(1);
  EXPECT_TRUE(clock.playing());
  clock.play_once();
  clock.seek(1);
  EXPECT_FALSE(clock.playing());
}

TEST(Clock, AskedToLoopItDoesThoughItWasToPlayOnce) {
  auto clock = clock_of(10, 20);
  clock.play_once();
  EXPECT_FALSE(clock.loops());
  clock.loop(!clock.loops());
  clock.tick(102.5);
  EXPECT_TRUE(clock.playing());
  EXPECT_DOUBLE_EQ(clock.time(), .5);
  clock.play_once();
  clock.tick(105);
  EXPECT_FALSE(clock.playing());
  EXPECT_TRUE(clock.loops());  // as it was set, for the next time it plays
}

TEST(Clock, WhatCannotPlayOnceLoopsAsItWasSet) {
  auto still = clock_of(8, 1);
  still.play_once();
  EXPECT_FALSE(still.playing());
  EXPECT_TRUE(still.loops());
  auto clock = clock_of(8, 16);
  clock.play_once();
  clock.set_clip({8, 20});
  EXPECT_FALSE(clock.loops());  // it goes on
  clock.set_clip({8, 1});
  EXPECT_FALSE(clock.playing());
  EXPECT_TRUE(clock.loops());
}

TEST(Clock, RestsAtTheStartAndAtTheEndOfWhatWasItsClip) {
  auto clock = clock_of(10, 20);
  EXPECT_TRUE(clock.rests());
  clock.play_once();
  EXPECT_FALSE(clock.rests());
  clock.tick(103);
  EXPECT_TRUE(clock.rests());
  clock.set_clip({10, 40});  // halfway through
  EXPECT_TRUE(clock.rests());
  clock.step(1);
  EXPECT_FALSE(clock.rests());
  clock.seek_frame(39);
  EXPECT_TRUE(clock.rests());
  clock.set_clip({10, 60});
  EXPECT_TRUE(clock.rests());
  clock.play(true);
  clock.play(false);
  EXPECT_FALSE(clock.rests());  // somebody stopped it between
  clock.seek_frame(0);
  EXPECT_TRUE(clock.rests());
}

TEST(Clock, SpeedDoublesAndHalvesWithinItsRange) {
  auto clock = clock_of(10, 200);
  clock.faster(1);
  EXPECT_DOUBLE_EQ(clock.speed(), 2);
  clock.play(true);
  clock.tick(101);
  EXPECT_DOUBLE_EQ(clock.time(), 2);
  clock.faster(-2);
  EXPECT_DOUBLE_EQ(clock.speed(), .5);
  clock.faster(-9);
  EXPECT_DOUBLE_EQ(clock.speed(), .125);
  clock.faster(9);
  EXPECT_DOUBLE_EQ(clock.speed(), 8);
}

TEST(Clock, StepsStopItAndGoRound) {
  auto clock = clock_of(8, 5);
  clock.play(true);
  clock.step(1);
  EXPECT_FALSE(clock.playing());
  EXPECT_EQ(clock.frame(), 1);
  clock.step(-2);
  EXPECT_EQ(clock.frame(), 4);
  clock.step(1);
  EXPECT_EQ(clock.frame(), 0);
  clock.loop(false);
  clock.step(-1);
  EXPECT_EQ(clock.frame(), 0);
  clock.step(9);
  EXPECT_EQ(clock.frame(), 4);
}

TEST(Clock, AnotherClipKeepsTheTimeAndAnImageDoesNotPlay) {
  auto clock = clock_of(8, 16);
  clock.seek(1.5);
  clock.set_clip({24, 48});
  EXPECT_EQ(clock.frame(), 36);
  clock.set_clip({8, 4});
  EXPECT_EQ(clock.frame(), 3);
  clock.play(true);
  clock.set_clip({8, 1});
  EXPECT_FALSE(clock.playing());
  clock.play(true);
  EXPECT_FALSE(clock.playing());
  clock.set_clip({8, 0});
  clock.step(1);
  EXPECT_EQ(clock.frame(), 0);
}

TEST(Clock, FramesWithoutARateDoNotPlay) {
  auto clock = clock_of(0, 8);
  clock.play(true);
  EXPECT_FALSE(clock.playing());
  clock.tick(101);
  EXPECT_EQ(clock.time(), 0);
  EXPECT_EQ(clock.frame(), 0);
  clock.set_clip({8, 8});
  clock.play(true);
  clock.set_clip({0, 8});
  EXPECT_FALSE(clock.playing());
}

TEST(Clock, SaysWhenTheNextFrameIsDue) {
  auto clock = clock_of(8, 16);
  EXPECT_LT(clock.until_change({8, 16}), 0);
  clock.play(true);
  EXPECT_DOUBLE_EQ(clock.until_change({8, 16}), .125);
  EXPECT_DOUBLE_EQ(clock.until_change({2, 4}), .5);
  clock.tick(100.1);
  EXPECT_NEAR(clock.until_change({8, 16}), .025, 1e-9);
  clock.faster(1);
  EXPECT_NEAR(clock.until_change({8, 16}), .0125, 1e-9);
  clock.faster(-1);
  clock.tick(101.8);
  EXPECT_NEAR(clock.until_change({2, 4}), .2, 1e-9);  // its last frame: until all start again
  EXPECT_NEAR(clock.until_change({8, 4}), .2, 1e-9);  // shorter than the others
  EXPECT_NEAR(clock.until_change({1, 9}), .2, 1e-9);  // longer: its next one would come too late
}

TEST(Clock, WokenWhenItSaysShowsEachFrameOnce) {
  for (const double fps : {7., 8., 23.976, 30.}) {
    auto clock = clock_of(fps, 50);
    clock.play(true);
    double now = 100;
    for (int i = 1; i < 120; ++i) {
      now += clock.until_change({fps, 50}) + 1e-7;
      clock.tick(now);
      EXPECT_EQ(clock.frame(), i % 50) << fps;
    }
  }
}

}  // namespace
}  // namespace sagelab::ui
