// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/maths/layout.h"

#include <algorithm>
#include <cmath>

namespace sagelab::ui {
namespace {

std::vector<Box> tiles(const Box& canvas, int count, Extent picture, double gap) {
  const double gaps = gap * (count - 1);
  const double width = (canvas.width() - gaps) / count, height = (canvas.height() - gaps) / count;
  const Box in_row{canvas.x0, canvas.y0, canvas.x0 + width, canvas.y1};
  const Box in_column{canvas.x0, canvas.y0, canvas.x1, canvas.y0 + height};
  const auto scale = [&](const Box& box) {
    return std::min(box.width() / picture.width, box.height() / picture.height);
  };
  const bool row = scale(in_row) >= scale(in_column);
  std::vector<Box> all;
  for (int i = 0; i < count; ++i) {
    Box box = row ? in_row : in_column;
    const double x = row ? i * (width + gap) : 0, y = row ? 0 : i * (height + gap);
    all.push_back({box.x0 + x, box.y0 + y, box.x1 + x, box.y1 + y});
  }
  return all;
}

std::vector<Pane> split(const Arrangement& a, const Box& canvas) {
  std::vector<Pane> panes;
  double from = canvas.x0;
  for (int i = 0; i < a.count; ++i) {
    const double to = i + 1 < a.count ? canvas.x0 + a.lines[size_t(i)] * canvas.width() : canvas.x1;
    panes.push_back({i, -1, canvas, {from, canvas.y0, to, canvas.y1}});
    from = to;
  }
  return panes;
}

}  // namespace

int flicker_index(double now, double hz, int count) {
  if (count < 1 || hz <= 0) return 0;
  return int(int64_t(std::floor(now * hz)) % count);
}

double until_flicker(double now, double hz) {
  return (std::floor(now * hz) + 1) / hz - now;
}

std::vector<Pane> panes_of(const Arrangement& a, const Box& canvas, Extent picture, double gap, double now) {
  std::vector<Pane> panes;
  if (a.count < 1 || canvas.width() <= 0 || canvas.height() <= 0) return panes;
  const auto whole = [&](int shown) { return Pane{shown, -1, canvas, canvas}; };
  if (a.count == 1) return {whole(0)};
  switch (a.mode) {
    case Mode::Single:
      return {whole(std::clamp(a.picked, 0, a.count - 1))};
    case Mode::Flicker:
      return {whole(flicker_index(now, a.flicker_hz, a.count))};
    case Mode::Split:
      return split(a, canvas);
    case Mode::SideBySide:
      for (const auto& box : tiles(canvas, a.count, picture, gap))
        panes.push_back({int(panes.size()), -1, box, box});
      return panes;
    case Mode::Difference:
      for (const auto& box : tiles(canvas, a.count - 1, picture, gap))
        panes.push_back({int(panes.size()) + 1, 0, box, box});
      return panes;
  }
  return panes;
}

std::array<double, 2> drag_line(std::array<double, 2> lines, int count, int line, double to) {
  to = std::clamp(to, 0., 1.);
  if (line == 0) lines[0] = to;
  if (line == 1) lines[1] = to;
  if (count > 2 && lines[0] > lines[1]) lines[size_t(1 - line)] = to;
  return lines;
}

int line_at(const Arrangement& a, const Box& canvas, double x, double reach) {
  if (a.mode != Mode::Split) return -1;
  int best = -1;
  for (int i = 0; i + 1 < a.count; ++i) {
    const double away = std::abs(x - (canvas.x0 + a.lines[size_t(i)] * canvas.width()));
    if (away > reach) continue;
    reach = away, best = i;
  }
  return best;
}

std::vector<int> folded(const std::vector<double>& widths, double gap, double room) {
  std::vector<int> lines;
  int line = 0;
  double taken = 0;
  for (const double width : widths) {
    if (taken > 0 && taken + gap + width > room) ++line, taken = 0;
    taken += (taken > 0 ? gap : 0) + width;
    lines.push_back(line);
  }
  return lines;
}

int pane_at(const std::vector<Pane>& panes, Point at) {
  const auto found = std::find_if(panes.begin(), panes.end(), [&](const Pane& p) { return p.clip.has(at); });
  return found == panes.end() ? -1 : int(found - panes.begin());
}

}  // namespace sagelab::ui
