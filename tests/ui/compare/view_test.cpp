// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/maths/view.h"

#include <gtest/gtest.h>

namespace sagelab::ui {
namespace {

const Box kPane{100, 50, 500, 250};  // 400 x 200, its middle at 300, 150

View view_of(double width, double height) {
  View view;
  view.arrange({width, height}, kPane);
  return view;
}

TEST(FittingScale, IsAnIntegerWhereItEnlarges) {
  EXPECT_DOUBLE_EQ(fitting_scale({128, 64}, kPane), 3);   // 3.125 either way
  EXPECT_DOUBLE_EQ(fitting_scale({100, 150}, kPane), 1);  // 1.33
  EXPECT_DOUBLE_EQ(fitting_scale({800, 100}, kPane), .5);
  EXPECT_DOUBLE_EQ(fitting_scale({100, 500}, kPane), .4);
  EXPECT_DOUBLE_EQ(fitting_scale({0, 0}, kPane), 1);
}

TEST(View, FitsInTheMiddle) {
  const auto view = view_of(100, 50);  // 4x
  const auto box = view.picture_on_screen(kPane);
  EXPECT_DOUBLE_EQ(view.scale(), 4);
  EXPECT_DOUBLE_EQ(box.x0, 100);
  EXPECT_DOUBLE_EQ(box.y0, 50);
  EXPECT_DOUBLE_EQ(box.x1, 500);
  EXPECT_DOUBLE_EQ(box.y1, 250);
}

TEST(View, ZoomHoldsWhatIsUnderTheCursor) {
  auto view = view_of(100, 50);
  const Point cursor{180, 90}, before = view.to_picture(cursor, kPane);
  EXPECT_DOUBLE_EQ(before.x, 20);
  EXPECT_DOUBLE_EQ(before.y, 10);
  view.zoom(3, cursor, kPane);
  EXPECT_DOUBLE_EQ(view.scale(), 12);
  const Point after = view.to_picture(cursor, kPane);
  EXPECT_NEAR(after.x, 20, 1e-9);
  EXPECT_NEAR(after.y, 10, 1e-9);
  EXPECT_FALSE(view.fits());
}

TEST(View, ZoomReachesSinglePixelsAndNoFurther) {
  auto view = view_of(100, 50);
  for (int i = 0; i < 40; ++i) view.zoom(2, kPane.middle(), kPane);
  EXPECT_DOUBLE_EQ(view.scale(), 256);
  for (int i = 0; i < 40; ++i) view.zoom(.5, kPane.middle(), kPane);
  EXPECT_DOUBLE_EQ(view.scale(), 1. / 32);
}

TEST(View, PanMovesByScreenPixels) {
  auto view = view_of(100, 50);
  const Point before = view.to_screen({10, 10}, kPane);
  view.pan({8, -12});
  const Point after = view.to_screen({10, 10}, kPane);
  EXPECT_NEAR(after.x - before.x, 8, 1e-9);
  EXPECT_NEAR(after.y - before.y, -12, 1e-9);
  view.pan({1e6, 1e6});  // never out of sight
  EXPECT_DOUBLE_EQ(view.to_picture(kPane.middle(), kPane).x, 0);
  EXPECT_DOUBLE_EQ(view.to_picture(kPane.middle(), kPane).y, 0);
}

TEST(View, FitFollowsThePaneAndAChosenViewDoesNot) {
  auto view = view_of(100, 50);
  const Box smaller{0, 0, 200, 200};
  view.arrange({100, 50}, smaller);
  EXPECT_DOUBLE_EQ(view.scale(), 2);
  view.actual_size();
  EXPECT_DOUBLE_EQ(view.scale(), 1);
  EXPECT_DOUBLE_EQ(view.to_picture(smaller.middle(), smaller).x, 50);
  EXPECT_DOUBLE_EQ(view.to_picture(smaller.middle(), smaller).y, 25);
  view.arrange({100, 50}, kPane);
  EXPECT_DOUBLE_EQ(view.scale(), 1);
  view.fit();
  view.arrange({100, 50}, kPane);
  EXPECT_DOUBLE_EQ(view.scale(), 4);
}

TEST(View, AResultInThePreviewsPlaceShowsTheSamePart) {
  auto view = view_of(50, 25);
  view.zoom(2, {180, 90}, kPane);
  const Point before = view.to_picture({180, 90}, kPane);
  view.arrange({200, 100}, kPane);
  const Point after = view.to_picture({180, 90}, kPane);
  EXPECT_NEAR(after.x, before.x * 4, 1e-9);
  EXPECT_NEAR(after.y, before.y * 4, 1e-9);
}

}  // namespace
}  // namespace sagelab::ui
