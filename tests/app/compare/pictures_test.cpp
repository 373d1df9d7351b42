// SPDX-License-Identifier: Apache-2.0
#include "app/compare/pictures.h"

#include <gmock/gmock.h>

#include "app/media/output.h"
#include "app/media/text.h"
#include "app/report/heat_map.h"
#include "app/report/plot_svg.h"
#include "tests/app/support.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using ::testing::HasSubstr;

Picture flat(uint8_t level, int frames = 1, int width = 16, int height = 16) {
  Picture picture{frames, height, width, {}};
  picture.pixels.assign(size_t(frames) * height * width * 3, level);
  return picture;
}

TEST(Gain, IsTheLargestThatKeepsDifferencesInRange) {
  const auto reference = flat(100);
  EXPECT_EQ(gain_for(reference, reference), 1) << "nothing to enlarge";
  EXPECT_EQ(gain_for(flat(101), reference), 64);
  EXPECT_EQ(gain_for(flat(103), reference), 64);
  EXPECT_EQ(gain_for(flat(95), reference), 32);
  EXPECT_EQ(gain_for(flat(228), reference), 1);
  auto speck = flat(103, 8);  // 6144 values, of which up to 6 may be cut off
  speck.pixels[7] = 255;
  EXPECT_EQ(gain_for(speck, flat(100, 8)), 64);
}

TEST(Difference, IsEnlargedAndCutOff) {
  EXPECT_EQ(difference(flat(97), flat(100), 4).pixels.at(0), 12);
  EXPECT_EQ(difference(flat(103), flat(100), 4).pixels.at(0), 12);
  EXPECT_EQ(difference(flat(250), flat(100), 4).pixels.at(0), 255);
}

std::array<uint8_t, 3> pixel(const Picture& picture, int t, int x, int y) {
  const auto frame = picture.frame(t);
  const size_t at = (size_t(y) * picture.width + x) * 3;
  return {frame[at], frame[at + 1], frame[at + 2]};
}

TEST(SideBySide, ShowsEveryPixelOfEveryPanel) {
  const auto a = std::make_shared<const Picture>(smooth_clip(3, 48, 32));
  const auto b = std::make_shared<const Picture>(flat(200, 3, 48, 32));
  const auto all = side_by_side({{"a", "1 s", "", a}, {"b", "2 s", "", b}, {"b - a", "", "", a}}, 3, 8);
  EXPECT_EQ(all.frames, 3);
  EXPECT_EQ(all.width % 2 + all.height % 2, 0) << "for MP4";
  constexpr int kFactor = 7, kPanel = 48 * kFactor, kBand = 8;  // 320 pixels or more
  EXPECT_EQ(all.width, 3 * (kPanel + kBand) + kBand);
  const int top = all.height - kBand - 32 * kFactor;
  for (int t = 0; t < 3; ++t)
    for (const auto& [x, y] : {std::pair{0, 0}, {47, 0}, {20, 31}}) {
      EXPECT_EQ(pixel(all, t, kBand + x * kFactor + 3, top + y * kFactor + 3), pixel(*a, t, x, y));
      EXPECT_EQ(pixel(all, t, 2 * kBand + kPanel + x * kFactor, top + y * kFactor)[0], 200);
    }
  EXPECT_EQ(
      side_by_side({{"a", "", "", a}, {"b", "", "", b}, {"c", "", "", b}, {"d", "", "", b}}, 2, 8).width,
      2 * (kPanel + kBand) + kBand)
      << "two rows of two";
}

TEST(ContactSheet, HasARowForEachPanel) {
  const auto a = std::make_shared<const Picture>(smooth_clip(9, 800, 96));
  const auto sheet = contact_sheet({{"a", "", "", a}, {"b", "", "", a}}, "a prompt");
  EXPECT_EQ(sheet.frames, 1);
  EXPECT_EQ(sheet.width, 6 * (266 + 8) + 8) << "the mean of 3x3 pixels each";
  double mean = 0;
  for (int y = 0; y < 3; ++y)
    for (int x = 0; x < 3; ++x) mean += pixel(*a, 8, x, y)[0] / 9.0;
  EXPECT_NEAR(pixel(sheet, 0, 8 + 5 * 274, sheet.height - 8 - 32)[0], mean, 0.51)
      << "the last frame, last row";
  EXPECT_EQ(contact_sheet({{"a", "", "", std::make_shared<const Picture>(flat(1))}}, "").frames, 1)
      << "an image";
}

TEST(BurntText, IsInkOfItsColourWithinTheFrame) {
  const auto ink = [](const media::Text& text) {
    std::vector<uint8_t> rgb(40 * 40 * 3, 0);
    media::draw(text, rgb, 40);
    return std::count_if(rgb.begin(), rgb.end(), [](uint8_t v) { return v == 9; });
  };
  const auto plain = ink({"A", 2, 2, 1, {9, 9, 9}});
  EXPECT_GT(plain, 20);
  EXPECT_EQ(ink({"A", 2, 2, 2, {9, 9, 9}}), 4 * plain);
  EXPECT_EQ(ink({"A", 100, 100, 1, {9, 9, 9}}), 0) << "outside";
  EXPECT_EQ(ink({" ", 2, 2, 1, {9, 9, 9}}), 0);
  EXPECT_EQ(ink({"\xe6\x97\xa5", 2, 2, 1, {9, 9, 9}}), ink({"?", 2, 2, 1, {9, 9, 9}}))
      << "one for each character";
}

TEST(BurntText, HasPlainPunctuationForTypographic) {
  EXPECT_EQ(media::fitted("\u201CBig Sur\u2019s\u201D \u2013 cliffs\u2026", 1, 400),
            "\"Big Sur's\" - cliffs...");
  EXPECT_EQ(media::fitted("caf\u00E9 \u65E5\u672C", 1, 400), "caf? ??");
}

TEST(Mp4, HasEvenSides) {
  EXPECT_FALSE(media::can_write_mp4(15, 16));
  EXPECT_FALSE(media::can_write_mp4(16, 15));
}

TEST(BurntText, IsCutToItsRoom) {
  EXPECT_EQ(media::fitted("short", 1, 400), "short");
  const auto cut = media::fitted("a text that is too long for its room", 2, 100);
  EXPECT_TRUE(cut.ends_with("..")) << cut;
  EXPECT_LE(media::text_width(cut, 2), 100);
  EXPECT_GT(media::text_width(cut, 2), 80);
}

TEST(HeatMap, EachCellHasItsColourAndItsValue) {
  HeatMap map{"<b> against a", "relative L1", {{0, 0, 0.001}, {1, 0, 0.1}, {1, 2, 0}}, 0.001, 0.1};
  const auto svg = to_svg(map);
  EXPECT_THAT(svg, HasSubstr("&lt;b&gt; against a"));
  EXPECT_THAT(svg, HasSubstr("fill=\"#edf8fb\"><title>step 1, layer 0: 0.001</title>"));
  EXPECT_THAT(svg, HasSubstr("fill=\"#28145a\"><title>step 2, layer 0: 0.1</title>"));
  EXPECT_THAT(svg, HasSubstr("fill=\"#ffffff\"><title>step 2, layer 2: 0</title>"));
  map.cells = {{0, 0, 0}}, map.low = map.high = 0;
  EXPECT_THAT(to_svg(map), HasSubstr("all 0"));
}

TEST(Plot, CountsStandOnALinearAxis) {
  Plot plot{"t", "", "step", "s", {{"", {{"a", {{1, 1}, {2, 1}, {3, 2}, {50, 1}}, false, ""}}}}, true};
  const auto svg = to_svg(plot);
  EXPECT_THAT(svg, HasSubstr(">10</text>"));
  EXPECT_THAT(svg, HasSubstr(">50</text>"));
  EXPECT_THAT(svg, ::testing::Not(HasSubstr(">3</text>"))) << "no tick at each value";
  const auto at = [&](double share) { return fmt::format("cx=\"{:.1f}\"", 70 + 340 * share); };
  EXPECT_THAT(svg, HasSubstr(at(2.0 / 49)));
  plot.panels[0].series[0].points = {{1, 0}, {2, 0}};
  EXPECT_THAT(to_svg(plot), HasSubstr(at(1))) << "all zero";
}

}  // namespace
}  // namespace sagelab
