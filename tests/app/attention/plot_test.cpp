// SPDX-License-Identifier: Apache-2.0
#include "app/report/plot_svg.h"

#include <gmock/gmock.h>

#include <regex>
#include <set>
#include <sstream>

namespace sagelab {
namespace {

using ::testing::HasSubstr;

Plot one_line(std::vector<std::pair<double, double>> points) {
  return {
      .title = "t",
      .subtitle = "s",
      .x_label = "x",
      .y_label = "y",
      .panels = {{"p", {{.name = "line", .points = std::move(points), .dashed = false, .colour_of = {}}}}}};
}

// The points of the first line, as drawn.
std::vector<std::pair<double, double>> drawn(const std::string& svg) {
  const size_t begin = svg.find("points=\"") + 8;
  std::istringstream text(svg.substr(begin, svg.find('"', begin) - begin));
  std::vector<std::pair<double, double>> points;
  char comma = 0;
  for (double x = 0, y = 0; text >> x >> comma >> y;) points.emplace_back(x, y);
  return points;
}

TEST(PlotSvg, XIsLogarithmicAndYStartsAtZero) {
  const auto points = drawn(to_svg(one_line({{1024, 100}, {2048, 200}, {8192, 400}})));
  ASSERT_EQ(points.size(), 3u);
  EXPECT_NEAR((points[2].first - points[1].first) / (points[1].first - points[0].first), 2, 0.01);
  const double bottom = points[0].second + (points[0].second - points[1].second);  // of 0
  EXPECT_NEAR((bottom - points[2].second) / (bottom - points[0].second), 4, 0.01);
  EXPECT_NEAR(bottom, 96 + 240, 0.2);
}

TEST(PlotSvg, TicksAreTheValuesThatOccurAndRoundNumbers) {
  const auto svg = to_svg(one_line({{1000, 30}, {1024, 640}, {32768, 871}}));
  for (const auto* tick : {">1000<", ">1K<", ">32K<", ">0<", ">200<", ">800<", ">1000<"})
    EXPECT_THAT(svg, HasSubstr(tick));
  EXPECT_THAT(to_svg(one_line({{16, 0.012}, {32, 0.031}})), HasSubstr(">0.005<"));
}

TEST(PlotSvg, TextIsEscapedAndTagsAreClosed) {
  auto plot = one_line({{1, 1}});
  plot.title = "a<b> & \"c\"";
  const auto svg = to_svg(plot);
  EXPECT_THAT(svg, HasSubstr("<title>a&lt;b&gt; &amp; &quot;c&quot;</title>"));
  std::vector<std::string> open;
  const std::regex tag("<(/?)([a-z]+)[^>]*?(/?)>");
  for (std::sregex_iterator at(svg.begin(), svg.end(), tag), end; at != end; ++at) {
    if ((*at)[1].length()) {
      ASSERT_FALSE(open.empty());
      EXPECT_EQ(open.back(), (*at)[2]);
      open.pop_back();
    } else if (!(*at)[3].length()) {
      open.push_back((*at)[2]);
    }
  }
  EXPECT_TRUE(open.empty());
}

TEST(PlotSvg, NamesDoNotCoverEachOther) {
  Plot plot = one_line({});
  plot.panels[0].series.clear();
  for (int i = 0; i < 9; ++i)
    plot.panels[0].series.push_back({.name = "line" + std::to_string(i),
                                     .points = {{1, 100}, {2, 100 + i}},
                                     .dashed = false,
                                     .colour_of = {}});
  const auto svg = to_svg(plot);
  std::set<double> heights;
  const std::regex label("<text x=\"[^\"]*\" y=\"([^\"]*)\" fill=\"#[^\"]*\">line[0-9]</text>");
  for (std::sregex_iterator at(svg.begin(), svg.end(), label), end; at != end; ++at)
    heights.insert(std::stod((*at)[1]));
  ASSERT_EQ(heights.size(), 9u);
  double previous = -1e9;
  for (const double height : heights) {
    EXPECT_GE(height - previous, 14.9);
    previous = height;
  }
}

TEST(PlotSvg, ColoursFollowNamesThroughThePanels) {
  Series a{.name = "a", .points = {{1, 1}}, .dashed = false, .colour_of = {}};
  Series b{.name = "b", .points = {{1, 2}}, .dashed = false, .colour_of = {}};
  Series kernel{.name = "b kernel", .points = {{1, 3}}, .dashed = true, .colour_of = "b"};
  const auto svg = to_svg({.title = "",
                           .subtitle = "",
                           .x_label = "",
                           .y_label = "",
                           .panels = {{"one", {a, b, kernel}}, {"two", {b, a}}}});
  const std::regex label("fill=\"(#[^\"]*)\">(a|b|b kernel)</text>");
  std::map<std::string, std::set<std::string>> colours;
  for (std::sregex_iterator at(svg.begin(), svg.end(), label), end; at != end; ++at)
    colours[(*at)[2]].insert((*at)[1]);
  ASSERT_EQ(colours.size(), 3u);
  EXPECT_EQ(colours["a"].size(), 1u);
  EXPECT_EQ(colours["b"], colours["b kernel"]);
  EXPECT_NE(colours["a"], colours["b"]);
}

TEST(PlotSvg, ALongTitleHasRoom) {
  const auto width = [](const std::string& svg) { return std::stod(svg.substr(svg.find(" width=\"") + 8)); };
  auto plot = one_line({{1, 1}});
  const double narrow = width(to_svg(plot));
  plot.title = std::string(90, 'm');
  EXPECT_GE(width(to_svg(plot)), 90 * 10);
  EXPECT_LT(narrow, 90 * 10);
}

TEST(PlotSvg, NothingToDrawIsStillAPicture) {
  const auto svg = to_svg(one_line({}));
  EXPECT_THAT(svg, HasSubstr("</svg>"));
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("<polyline"), std::string::npos);
}

}  // namespace
}  // namespace sagelab
