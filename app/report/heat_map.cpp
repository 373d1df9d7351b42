// SPDX-License-Identifier: Apache-2.0
#include "app/report/heat_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "app/report/plot_svg.h"

namespace sagelab {
namespace {

constexpr double kMapLeft = 56, kMapTop = 56, kMapBottom = 48, kLegend = 130, kMapTitleLetter = 9;
constexpr int kLegendSteps = 16;

using Rgb = std::array<double, 3>;
// From light to dark, so that it also reads in grey.
constexpr std::array<Rgb, 4> kScale{Rgb{237, 248, 251}, Rgb{140, 200, 215}, Rgb{50, 110, 180},
                                    Rgb{40, 20, 90}};

std::string colour_at(double share) {
  const double place = std::clamp(share, 0.0, 1.0) * (kScale.size() - 1);
  const auto i = std::min(size_t(place), kScale.size() - 2);
  const double f = place - double(i);
  const auto mix = [&](size_t c) { return int(std::lround(kScale[i][c] * (1 - f) + kScale[i + 1][c] * f)); };
  return fmt::format("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2));
}

struct Layout {
  int steps = 1, layers = 1;
  double cell_width = 0, cell_height = 0;
  double right() const { return kMapLeft + cell_width * steps; }
  double bottom() const { return kMapTop + cell_height * layers; }
};

Layout layout_of(const HeatMap& map) {
  Layout layout;
  for (const auto& cell : map.cells) {
    layout.steps = std::max(layout.steps, cell.step + 1);
    layout.layers = std::max(layout.layers, cell.layer + 1);
  }
  layout.cell_width = std::clamp(560.0 / layout.steps, 6.0, 40.0);
  layout.cell_height = std::clamp(320.0 / layout.layers, 6.0, 24.0);
  return layout;
}

std::string colour_of(const HeatMap& map, double value) {
  if (value <= 0 || map.low <= 0) return "#ffffff";
  if (map.high <= map.low) return colour_at(0.5);
  return colour_at(std::log(value / map.low) / std::log(map.high / map.low));
}

std::string rectangle(double x, double y, double width, double height, const std::string& fill) {
  return fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"", x, y,
                     width, height, fill);
}

// Every label where there is room for it, else the first, and those of each tenth.
std::string ticks(const Layout& l) {
  std::string out;
  const auto shown = [](int i, double size, double least) { return size >= least || i % 10 == 0; };
  for (int i = 0; i < l.steps; ++i)
    if (shown(i, l.cell_width, 16))
      out += svg_text(kMapLeft + (i + 0.5) * l.cell_width, l.bottom() + 16, " text-anchor=\"middle\"",
                      std::to_string(i + 1));
  for (int i = 0; i < l.layers; ++i)
    if (shown(i, l.cell_height, 12))
      out += svg_text(kMapLeft - 6, kMapTop + (i + 0.5) * l.cell_height + 4, " text-anchor=\"end\"",
                      std::to_string(i));
  out += svg_text((kMapLeft + l.right()) / 2, l.bottom() + 36, " text-anchor=\"middle\"", "step");
  const double middle = (kMapTop + l.bottom()) / 2;
  return out + svg_text(14, middle,
                        fmt::format(" text-anchor=\"middle\" transform=\"rotate(-90 14 {:.1f})\"", middle),
                        "layer");
}

std::string legend(const HeatMap& map, const Layout& l) {
  const double x = l.right() + 24, height = std::min(160.0, std::max(64.0, l.bottom() - kMapTop));
  if (map.low <= 0) return svg_text(x, kMapTop + 12, "", "all 0");
  std::string out;
  for (int i = 0; i < kLegendSteps; ++i)
    out += rectangle(x, kMapTop + height * (kLegendSteps - 1 - i) / kLegendSteps, 16,
                     height / kLegendSteps + 0.5, colour_at(double(i) / (kLegendSteps - 1))) +
           "/>\n";
  return out + svg_text(x + 22, kMapTop + 10, "", fmt::format("{:.2g}", map.high)) +
         svg_text(x + 22, kMapTop + height, "", fmt::format("{:.2g}", map.low));
}

}  // namespace

std::string to_svg(const HeatMap& map) {
  const Layout l = layout_of(map);
  const double width = std::max(l.right() + kLegend, 32 + kMapTitleLetter * double(map.title.size())),
               height = std::max(l.bottom(), kMapTop + 64) + kMapBottom;
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:g} {1:g}\" width=\"{0:g}\" "
      "height=\"{1:g}\" "
      "role=\"img\" font-family=\"sans-serif\" font-size=\"12\">\n<title>{2}</title>\n"
      "<rect width=\"{0:g}\" height=\"{1:g}\" fill=\"#fff\"/>\n",
      width, height, escaped(map.title));
  out += svg_text(16, 24, " font-size=\"15\" font-weight=\"bold\"", map.title);
  out += svg_text(16, 42, " fill=\"#555\"", map.value_name);
  for (const auto& cell : map.cells)
    out += rectangle(kMapLeft + cell.step * l.cell_width, kMapTop + cell.layer * l.cell_height, l.cell_width,
                     l.cell_height, colour_of(map, cell.value)) +
           fmt::format("><title>step {}, layer {}: {:.3g}</title></rect>\n", cell.step + 1, cell.layer,
                       cell.value);
  out += rectangle(kMapLeft, kMapTop, l.right() - kMapLeft, l.bottom() - kMapTop, "none") +
         " stroke=\"#999\"/>\n";
  return out + ticks(l) + legend(map, l) + "</svg>\n";
}

}  // namespace sagelab
