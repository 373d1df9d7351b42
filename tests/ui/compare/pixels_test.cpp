// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/maths/pixels.h"

#include <gtest/gtest.h>

namespace sagelab::ui {
namespace {

std::shared_ptr<const Picture> picture(int width, int height, std::vector<uint8_t> pixels) {
  auto made = std::make_shared<Picture>();
  made->width = width, made->height = height;
  made->frames = int(pixels.size()) / (3 * width * height);
  made->pixels = std::move(pixels);
  return made;
}

TEST(ValueAt, IsThePixelOfTheFrame) {
  const Shot shot{picture(2, 1, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}), 1};
  EXPECT_EQ(value_at(shot, {2, 1}, {0, 0}), (Rgb{7, 8, 9}));
  EXPECT_EQ(value_at(shot, {2, 1}, {1.9, .9}), (Rgb{10, 11, 12}));
  EXPECT_FALSE(value_at(shot, {2, 1}, {2, 0}));
  EXPECT_FALSE(value_at(shot, {2, 1}, {-.1, 0}));
  EXPECT_FALSE(value_at(shot, {2, 1}, {0, 1}));
  EXPECT_FALSE(value_at({shot.picture, 2}, {2, 1}, {0, 0}));
  EXPECT_FALSE(value_at({}, {2, 1}, {0, 0}));
}

TEST(ValueAt, ASmallerPictureIsStretched) {
  const Shot shot{picture(2, 1, {1, 2, 3, 4, 5, 6}), 0};
  EXPECT_EQ(value_at(shot, {8, 4}, {3.9, 3.9}), (Rgb{1, 2, 3}));
  EXPECT_EQ(value_at(shot, {8, 4}, {4, 0}), (Rgb{4, 5, 6}));
}

TEST(Difference, SignedShowsTheChannelThatDiffersMost) {
  const DifferenceLook look{DifferenceKind::Signed, 1};
  EXPECT_EQ(difference({10, 20, 30}, {13, 20, 25}), (std::array<int, 3>{-3, 0, 5}));
  EXPECT_EQ(colour_of_difference({0, 0, 0}, look), (Rgb{0, 0, 0}));
  EXPECT_EQ(colour_of_difference({0, 255, 0}, look), (Rgb{255, 88, 40}));
  EXPECT_EQ(colour_of_difference({0, 20, -255}, look), (Rgb{40, 136, 255}));
  EXPECT_EQ(colour_of_difference({51, -50, 0}, look), (Rgb{51, 18, 8}));  // a fifth of full red
}

TEST(Difference, AbsoluteIsOfEachChannel) {
  EXPECT_EQ(colour_of_difference({-3, 0, 5}, {DifferenceKind::Absolute, 1}), (Rgb{3, 0, 5}));
  EXPECT_EQ(colour_of_difference({-3, 0, 5}, {DifferenceKind::Absolute, 16}), (Rgb{48, 0, 80}));
  EXPECT_EQ(colour_of_difference({-30, 0, 5}, {DifferenceKind::Absolute, 16}), (Rgb{255, 0, 80}));
}

TEST(Difference, GainIsFullAtItsPartOf255) {
  EXPECT_EQ(colour_of_difference({17, 0, 0}, {DifferenceKind::Signed, 15}), (Rgb{255, 88, 40}));
  EXPECT_EQ(colour_of_difference({16, 0, 0}, {DifferenceKind::Signed, 15}), (Rgb{240, 83, 38}));
}

TEST(DifferencePicture, EachPixelIsShownMinusAgainst) {
  const Shot a{picture(2, 1, {10, 0, 0, 0, 9, 0}), 0}, b{picture(2, 1, {0, 0, 0, 0, 0, 4}), 0};
  const auto made = difference_picture(a, b, {DifferenceKind::Absolute, 2});
  EXPECT_EQ(made.frames, 1);
  EXPECT_EQ(made.pixels, (std::vector<uint8_t>{20, 0, 0, 0, 18, 8}));
  const auto back = difference_picture(b, a, {DifferenceKind::Signed, 255});
  EXPECT_EQ(back.pixels, (std::vector<uint8_t>{40, 136, 255, 40, 136, 255}));
}

TEST(DifferencePicture, TheSmallerOneIsStretched) {
  const Shot small{picture(1, 2, {1, 1, 1, 2, 2, 2}), 0};
  const Shot large{picture(2, 4, std::vector<uint8_t>(24, 0)), 0};
  const auto made = difference_picture(small, large, {DifferenceKind::Absolute, 1});
  EXPECT_EQ(made.width, 2);
  EXPECT_EQ(made.height, 4);
  EXPECT_EQ(made.pixels[0], 1);
  EXPECT_EQ(made.pixels[11], 1);  // the second row's end
  EXPECT_EQ(made.pixels[12], 2);
}

}  // namespace
}  // namespace sagelab::ui
