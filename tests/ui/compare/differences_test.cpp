// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/differences.h"

#include <gtest/gtest.h>

#include <latch>

#include "tests/ui/compare/states.h"

namespace sagelab::ui {
namespace {

const auto kShown = plain_picture(8, 2, 1, 30), kAgainst = plain_picture(8, 2, 1, 10);

Wanted frame(int i, double gain = 1) {
  return {{kShown, i}, {kAgainst, i}, {DifferenceKind::Absolute, gain}};
}

std::vector<uint8_t> pixels_of(const Wanted& wanted) {
  return difference_picture(wanted.shown, wanted.against, wanted.look).pixels;
}

TEST(Differences, AreMadeByAnotherThreadAndOnce) {
  std::thread::id maker;
  Differences differences([&] { maker = std::this_thread::get_id(); });
  EXPECT_EQ(differences.of(0, frame(0, 2)), nullptr);
  differences.wait_idle();
  EXPECT_NE(maker, std::this_thread::get_id());
  const auto made = differences.of(0, frame(0, 2));
  ASSERT_NE(made, nullptr);
  EXPECT_EQ(made->pixels, pixels_of(frame(0, 2)));
  EXPECT_EQ(made->pixels[0], 40);  // (30 - 10) * 2
  EXPECT_EQ(differences.of(0, frame(0, 2)), made);
  EXPECT_EQ(differences.of(1, frame(0, 2)), made);  // whichever pane asks
  EXPECT_EQ(differences.made(), 1);
}

TEST(Differences, WhatDiffersInAnythingIsAnother) {
  Differences differences([] {});
  const auto get = [&](const Wanted& wanted) {
    differences.of(0, wanted);
    differences.wait_idle();
    return differences.of(0, wanted);
  };
  const auto first = get(frame(0));
  EXPECT_NE(get(frame(1)), first);
  EXPECT_NE(get(frame(0, 2)), first);
  auto swapped = frame(0);
  std::swap(swapped.shown, swapped.against);
  EXPECT_NE(get(swapped), first);
  EXPECT_EQ(differences.made(), 4);
  EXPECT_EQ(get(frame(0)), first);  // four are kept
  EXPECT_EQ(differences.made(), 4);
  get({{kShown, 0}, {kShown, 0}, {}});
  get(frame(0));
  EXPECT_EQ(differences.made(), 6);  // the oldest went
}

// A maker that stands still after its first picture until it is let go.
struct Held {
  std::latch first_made{1}, go_on{1};
  int told = 0;
  Differences differences{[this] {
    if (told++ > 0) return;
    first_made.count_down();
    go_on.wait();
  }};
  Held() {
    differences.of(0, frame(0));
    first_made.wait();
  }
};

TEST(Differences, OnlyTheLastWishOfEachPlaceIsMade) {
  Held held;
  for (int i = 1; i < 8; ++i) held.differences.of(0, frame(i)), held.differences.of(1, frame(i, 2));
  held.go_on.count_down();
  held.differences.wait_idle();
  EXPECT_EQ(held.differences.made(), 3);
  EXPECT_EQ(held.differences.of(0, frame(7))->pixels, pixels_of(frame(7)));
  EXPECT_EQ(held.differences.of(1, frame(7, 2))->pixels, pixels_of(frame(7, 2)));
  EXPECT_EQ(held.differences.made(), 3);
}

TEST(Differences, UntilItIsMadeTheLatestOfThatPlaceIsShown) {
  Held held;
  // The wish has changed, and still: a maker that is slower than the clock is seen to make something.
  const auto shown = held.differences.of(0, frame(1));
  ASSERT_NE(shown, nullptr);
  EXPECT_EQ(shown->pixels, pixels_of(frame(0)));
  EXPECT_EQ(held.differences.of(1, frame(1)), nullptr);  // another pane's is another thing
  held.go_on.count_down();
}

TEST(Differences, OnceClearedNothingIsKept) {
  Differences differences([] {});
  auto picture = plain_picture(2, 2, 1, 30);
  const Wanted wanted{{picture, 0}, {picture, 0}, {}};
  differences.of(0, wanted);
  differences.wait_idle();
  const std::weak_ptr<const Picture> made = differences.of(0, wanted);
  EXPECT_FALSE(made.expired());
  picture.reset();
  differences.clear();
  EXPECT_TRUE(made.expired());
}

}  // namespace
}  // namespace sagelab::ui
