// SPDX-License-Identifier: Apache-2.0
#include "app/report/plot_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

namespace sagelab {
namespace {

// Okabe and Ito's palette without its yellow, then three darker ones: told apart by most eyes.
constexpr std::array kColours{"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00",
                              "#56B4E9", "#000000", "#7F3C8D", "#6B8E23", "#8C564B"};
constexpr double kPlotWidth = 340, kPlotHeight = 240, kLeft = 70, kTop = 96, kBottom = 56;
constexpr double kLeader = 22, kLetter = 7.5,
                 kTitleLetter = 10.5;  // from the plot to the names; widths of a letter, about
constexpr double kLabelGap = 15;       // between the baselines of two names
constexpr int kMostTicks = 8;

std::string short_number(double value) {
  if (value >= 1024 && std::fmod(value, 1024) == 0) return fmt::format("{:g}K", value / 1024);
  return fmt::format("{:g}", value);
}

// 1, 2 or 5 times a power of ten, so that at most kMostTicks steps reach the top.
double tick_step(double top) {
  double step = std::pow(10, std::floor(std::log10(top / kMostTicks)));
  for (const double factor : {1.0, 2.0, 5.0, 10.0})
    if (top / (step * factor) <= kMostTicks) return step * factor;
  return step * 10;
}

std::set<double> round_numbers(double low, double high) {
  std::set<double> all;
  const double step = high > low ? std::max(1.0, tick_step(high - low)) : 1;
  for (double value = step * std::ceil(low / step); value <= high; value += step) all.insert(value);
  return all;
}

struct Axes {
  double right = kLeft + kPlotWidth, bottom = kTop + kPlotHeight;  // the lower right corner of the plot
  double width = 0, height = 0;                                    // of a panel, names and labels included
  double x_low = 0, x_high = 1, y_high = 1, step = 1;
  std::set<double> ticks;  // of x
  bool linear = false;

  double x(double value) const {
    if (x_low == x_high) return (kLeft + right) / 2;
    if (linear) return kLeft + kPlotWidth * (value - x_low) / (x_high - x_low);
    return kLeft + kPlotWidth * std::log(value / x_low) / std::log(x_high / x_low);
  }
  double y(double value) const { return bottom - (bottom - kTop) * value / y_high; }
};

// The same for every panel, so that they compare.
Axes axes_of(const Plot& plot) {
  Axes axes;
  double top = 0;
  size_t letters = 0, names = 0;
  for (const auto& panel : plot.panels) {
    names = std::max(names, panel.series.size());
    for (const auto& series : panel.series) {
      letters = std::max(letters, series.name.size());
      for (const auto& [x, y] : series.points) {
        axes.ticks.insert(x);
        top = std::max(top, y);
      }
    }
  }
  axes.bottom = kTop + std::max(kPlotHeight, kLabelGap * double(names));
  axes.height = axes.bottom + kBottom;
  axes.width = axes.right + kLeader + kLetter * double(letters);
  if (axes.ticks.empty()) return axes;
  axes.x_low = *axes.ticks.begin(), axes.x_high = *axes.ticks.rbegin();
  axes.linear = plot.counts;
  if (plot.counts) axes.ticks = round_numbers(axes.x_low, axes.x_high);
  if (top <= 0) return axes;
  axes.step = tick_step(top);
  axes.y_high = axes.step * std::ceil(top / axes.step);
  return axes;
}

std::string grid(const Plot& plot, const Axes& axes) {
  const double right = axes.right, bottom = axes.bottom;
  std::string out;
  const int steps = int(std::lround(axes.y_high / axes.step));
  for (int i = 0; i <= steps; ++i) {
    const double value = i * axes.step, y = axes.y(value);
    out += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n",
                       kLeft, y, right, y, i == 0 ? "#333" : "#ddd");
    out += svg_text(kLeft - 8, y + 4, " text-anchor=\"end\"", fmt::format("{:g}", value));
  }
  for (const double tick : axes.ticks) {
    const double x = axes.x(tick);
    out += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#333\"/>\n", x,
                       bottom, x, bottom + 5);
    out += svg_text(x, bottom + 20, " text-anchor=\"middle\"", short_number(tick));
  }
  out += svg_text((kLeft + right) / 2, bottom + 42, " text-anchor=\"middle\"", plot.x_label);
  return out + svg_text(16, (kTop + bottom) / 2,
                        fmt::format(" text-anchor=\"middle\" transform=\"rotate(-90 16 {:.1f})\"",
                                    (kTop + bottom) / 2),
                        plot.y_label);
}

std::string line(const Series& series, const Axes& axes, const std::string& colour) {
  std::string points, dots;
  for (const auto& [x, y] : series.points) {
    points += fmt::format("{}{:.1f},{:.1f}", points.empty() ? "" : " ", axes.x(x), axes.y(y));
    dots += fmt::format(
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"><title>{}: {:.4g} at {:g}</title></circle>\n", axes.x(x),
        axes.y(y), escaped(series.name), y, x);
  }
  return fmt::format(
      "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{}/>\n<g fill=\"{}\">\n{}</g>\n",
      points, colour, series.dashed ? " stroke-dasharray=\"6 4\"" : "", colour, dots);
}

struct Label {
  const Series* series;
  double at, x, y;  // where the name stands; where its line ends
};

// Moved apart from the top down, then back up where the last one fell off the bottom.
void spread(std::vector<Label>& labels, double lowest) {
  std::sort(labels.begin(), labels.end(), [](const Label& a, const Label& b) { return a.at < b.at; });
  for (size_t i = 1; i < labels.size(); ++i)
    labels[i].at = std::max(labels[i].at, labels[i - 1].at + kLabelGap);
  for (size_t i = labels.size(); i-- > 0; lowest -= kLabelGap) labels[i].at = std::min(labels[i].at, lowest);
}

std::string labels_of(const Panel& panel, const Axes& axes,
                      const std::map<std::string, std::string>& colours) {
  std::vector<Label> labels;
  for (const auto& series : panel.series) {
    if (series.points.empty()) continue;
    const auto [x, y] = series.points.back();
    labels.push_back({&series, axes.y(y), axes.x(x), axes.y(y)});
  }
  spread(labels, axes.bottom);
  std::string out;
  const double x = axes.right + kLeader;
  for (const auto& label : labels) {
    const auto& colour =
        colours.at(label.series->colour_of.empty() ? label.series->name : label.series->colour_of);
    out += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" "
        "stroke-opacity=\"0.5\"/>\n",
        label.x + 4, label.y, x - 4, label.at, colour);
    out += svg_text(x, label.at + 4, fmt::format(" fill=\"{}\"", colour), label.series->name);
  }
  return out;
}

std::map<std::string, std::string> colours_of(const Plot& plot) {
  std::map<std::string, std::string> colours;
  size_t next = 0;
  for (const auto& panel : plot.panels)
    for (const auto& series : panel.series) {
      const auto& name = series.colour_of.empty() ? series.name : series.colour_of;
      if (!colours.contains(name)) colours[name] = kColours[next++ % kColours.size()];
    }
  return colours;
}

}  // namespace

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string svg_text(double x, double y, const std::string& attributes, const std::string& value) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\"{}>{}</text>\n", x, y, attributes, escaped(value));
}

std::string to_svg(const Plot& plot) {
  const auto axes = axes_of(plot);
  const auto colours = colours_of(plot);
  const double panels = axes.width * double(std::max<size_t>(plot.panels.size(), 1));
  const double width = std::max(
      {panels, 32 + kTitleLetter * double(plot.title.size()), 32 + kLetter * double(plot.subtitle.size())});
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:g} {1:g}\" width=\"{0:g}\" "
      "height=\"{1:g}\" "
      "role=\"img\" font-family=\"sans-serif\" font-size=\"12\">\n<title>{2}</title>\n"
      "<rect width=\"{0:g}\" height=\"{1:g}\" fill=\"#fff\"/>\n",
      width, axes.height, escaped(plot.title));
  out += svg_text(16, 26, " font-size=\"16\" font-weight=\"bold\"", plot.title);
  out += svg_text(16, 46, " fill=\"#555\"", plot.subtitle);
  double left = 0;
  for (const auto& panel : plot.panels) {
    out += fmt::format("<g transform=\"translate({:g} 0)\">\n", left);
    out += svg_text(kLeft, kTop - 18, " font-weight=\"bold\"", panel.title);
    out += grid(plot, axes);
    for (const auto& series : panel.series)
      if (!series.points.empty())
        out += line(series, axes, colours.at(series.colour_of.empty() ? series.name : series.colour_of));
    out += labels_of(panel, axes, colours) + "</g>\n";
    left += axes.width;
  }
  return out + "</svg>\n";
}

}  // namespace sagelab
