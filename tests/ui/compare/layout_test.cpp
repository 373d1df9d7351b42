// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/maths/layout.h"

#include <gtest/gtest.h>

namespace sagelab::ui {
namespace {

const Box kCanvas{10, 20, 410, 220};  // 400 x 200
const Extent kPicture{128, 128};

Arrangement arrangement(Mode mode, int count) {
  Arrangement a;
  a.mode = mode, a.count = count;
  return a;
}

TEST(Panes, OneOrNoneAreShownPlainly) {
  EXPECT_TRUE(panes_of(arrangement(Mode::Split, 0), kCanvas, kPicture, 4, 0).empty());
  for (const auto mode : {Mode::Split, Mode::SideBySide, Mode::Flicker, Mode::Difference, Mode::Single}) {
    const auto panes = panes_of(arrangement(mode, 1), kCanvas, kPicture, 4, 0.7);
    ASSERT_EQ(panes.size(), 1u);
    EXPECT_EQ(panes[0].against, -1);
    EXPECT_EQ(panes[0].clip.width(), 400);
  }
}

TEST(Panes, SplitSharesOneSpaceAndMeetsAtTheLine) {
  auto a = arrangement(Mode::Split, 2);
  a.lines[0] = .25;
  const auto panes = panes_of(a, kCanvas, kPicture, 4, 0);
  ASSERT_EQ(panes.size(), 2u);
  EXPECT_DOUBLE_EQ(panes[0].clip.x0, 10);
  EXPECT_DOUBLE_EQ(panes[0].clip.x1, 110);
  EXPECT_DOUBLE_EQ(panes[1].clip.x0, 110);
  EXPECT_DOUBLE_EQ(panes[1].clip.x1, 410);
  EXPECT_DOUBLE_EQ(panes[1].space.x0, 10);
  EXPECT_DOUBLE_EQ(panes[0].space.x1, 410);
}

TEST(Panes, SplitOfThreeHasTwoLines) {
  auto a = arrangement(Mode::Split, 3);
  a.lines = {.25, .75};
  const auto panes = panes_of(a, kCanvas, kPicture, 4, 0);
  ASSERT_EQ(panes.size(), 3u);
  EXPECT_DOUBLE_EQ(panes[1].clip.x0, 110);
  EXPECT_DOUBLE_EQ(panes[1].clip.x1, 310);
  EXPECT_EQ(panes[2].shown, 2);
}

TEST(Panes, SideBySideTakesTheLargerOfRowAndColumn) {
  auto panes = panes_of(arrangement(Mode::SideBySide, 2), kCanvas, kPicture, 4, 0);
  ASSERT_EQ(panes.size(), 2u);
  EXPECT_DOUBLE_EQ(panes[0].clip.width(), 198);
  EXPECT_DOUBLE_EQ(panes[1].clip.x0, 212);
  EXPECT_DOUBLE_EQ(panes[1].clip.x1, 410);
  EXPECT_DOUBLE_EQ(panes[1].space.x0, 212);
  panes = panes_of(arrangement(Mode::SideBySide, 2), kCanvas, {512, 64}, 4, 0);  // wide: one above the other
  EXPECT_DOUBLE_EQ(panes[0].clip.width(), 400);
  EXPECT_DOUBLE_EQ(panes[0].clip.height(), 98);
  EXPECT_DOUBLE_EQ(panes[1].clip.y0, 122);
}

TEST(Panes, DifferencesAreToTheFirst) {
  auto panes = panes_of(arrangement(Mode::Difference, 2), kCanvas, kPicture, 4, 0);
  ASSERT_EQ(panes.size(), 1u);
  EXPECT_EQ(panes[0].shown, 1);
  EXPECT_EQ(panes[0].against, 0);
  EXPECT_DOUBLE_EQ(panes[0].clip.width(), 400);
  panes = panes_of(arrangement(Mode::Difference, 3), kCanvas, kPicture, 4, 0);
  ASSERT_EQ(panes.size(), 2u);
  EXPECT_EQ(panes[1].shown, 2);
  EXPECT_EQ(panes[1].against, 0);
}

TEST(Panes, FlickerShowsOneAfterTheOther) {
  auto a = arrangement(Mode::Flicker, 3);
  for (const auto& [now, shown] : {std::pair{0., 0}, {.49, 0}, {.5, 1}, {1., 2}, {1.5, 0}}) {
    const auto panes = panes_of(a, kCanvas, kPicture, 4, now);
    ASSERT_EQ(panes.size(), 1u);
    EXPECT_EQ(panes[0].shown, shown) << now;
  }
  EXPECT_EQ(flicker_index(1e9 + .3, 4, 2), 1);
  EXPECT_EQ(flicker_index(3, 0, 2), 0);
}

TEST(Panes, ThePickedOneAlone) {
  auto a = arrangement(Mode::Single, 3);
  a.picked = 2;
  EXPECT_EQ(panes_of(a, kCanvas, kPicture, 4, 0)[0].shown, 2);
  a.count = 2;  // it went away
  EXPECT_EQ(panes_of(a, kCanvas, kPicture, 4, 0)[0].shown, 1);
}

TEST(Lines, StayInOrderAndInside) {
  EXPECT_EQ(drag_line({.5, .7}, 2, 0, 1.5), (std::array<double, 2>{1, .7}));
  EXPECT_EQ(drag_line({.5, .7}, 2, 0, -3), (std::array<double, 2>{0, .7}));
  EXPECT_EQ(drag_line({.5, .7}, 3, 0, .8), (std::array<double, 2>{.8, .8}));
  EXPECT_EQ(drag_line({.5, .7}, 3, 1, .2), (std::array<double, 2>{.2, .2}));
}

TEST(Lines, TheNearestIsGrabbed) {
  auto a = arrangement(Mode::Split, 3);
  a.lines = {.5, .51};  // at 210 and 214
  EXPECT_EQ(line_at(a, kCanvas, 211, 6), 0);
  EXPECT_EQ(line_at(a, kCanvas, 213, 6), 1);
  EXPECT_EQ(line_at(a, kCanvas, 221, 6), -1);
  a.count = 2;
  EXPECT_EQ(line_at(a, kCanvas, 216, 6), 0);
  EXPECT_EQ(line_at(a, kCanvas, 217, 6), -1);
  a.mode = Mode::SideBySide;
  EXPECT_EQ(line_at(a, kCanvas, 210, 6), -1);
}

TEST(PaneAt, IsTheVisiblePart) {
  const auto panes = panes_of(arrangement(Mode::Split, 2), kCanvas, kPicture, 4, 0);
  EXPECT_EQ(pane_at(panes, {209, 100}), 0);
  EXPECT_EQ(pane_at(panes, {210, 100}), 1);
  EXPECT_EQ(pane_at(panes, {210, 220}), -1);
}

TEST(Folded, GoesOnInTheNextLine) {
  using Lines = std::vector<int>;
  EXPECT_EQ(folded({10, 10, 10}, 2, 34), (Lines{0, 0, 0}));
  EXPECT_EQ(folded({10, 10, 10}, 2, 33), (Lines{0, 0, 1}));
  EXPECT_EQ(folded({10, 40, 10, 10}, 2, 22), (Lines{0, 1, 2, 2}));
  EXPECT_EQ(folded({40}, 2, 22), (Lines{0}));
  EXPECT_TRUE(folded({}, 2, 22).empty());
}

TEST(Flicker, SaysWhenItChanges) {
  EXPECT_DOUBLE_EQ(until_flicker(3.125, 2), .375);
  EXPECT_DOUBLE_EQ(until_flicker(3.5, 2), .5);
  EXPECT_NE(flicker_index(3.125, 2, 2), flicker_index(3.125 + .375, 2, 2));
}

}  // namespace
}  // namespace sagelab::ui
