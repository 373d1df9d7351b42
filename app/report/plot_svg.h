// SPDX-License-Identifier: Apache-2.0
// Line charts as SVG: panels from left to right, one colour for each name throughout, names at the ends of
// the lines.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace sagelab {

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;  // x ascending
  bool dashed = false;
  std::string colour_of;  // the name whose colour it takes; its own where empty
};

struct Panel {
  std::string title;
  std::vector<Series> series;  // those without points are left out
};

struct Plot {
  std::string title, subtitle;
  std::string x_label, y_label;
  std::vector<Panel> panels;  // x on a logarithmic axis with a tick at each value that occurs; y from 0
  bool counts = false;        // x counts (steps, frames): a linear axis with ticks at round numbers
};

std::string to_svg(const Plot& plot);
// As text and attributes of XML and HTML hold it.
std::string escaped(const std::string& text);
// A <text> element at x, y; attributes: as they stand in it, with a space in front.
std::string svg_text(double x, double y, const std::string& attributes, const std::string& value);

}  // namespace sagelab
