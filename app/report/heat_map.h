// SPDX-License-Identifier: Apache-2.0
// A value of each step and layer as SVG: steps from left to right, layers from top to bottom, colours on a
// logarithmic scale, each cell with its value as a tip.
#pragma once

#include <string>
#include <vector>

namespace sagelab {

struct HeatMap {
  struct Cell {
    int step = 0, layer = 0;  // from 0
    double value = 0;         // 0: white
  };
  std::string title, value_name;
  std::vector<Cell> cells;
  double low = 0, high = 0;  // ends of the colours, above 0; so that several maps compare. 0: all is 0
};

std::string to_svg(const HeatMap& map);

}  // namespace sagelab
