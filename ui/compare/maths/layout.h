// SPDX-License-Identifier: Apache-2.0
// Which picture is seen where, in each mode of the canvas.
#pragma once

#include <array>
#include <vector>

#include "ui/compare/maths/view.h"

namespace sagelab::ui {

enum class Mode { Split, SideBySide, Flicker, Difference, Single };

// A part of the canvas. space: what the view is arranged in; clip: the part of it that is drawn.
struct Pane {
  int shown = 0;     // index of what is compared: 0 is a
  int against = -1;  // Difference: shown minus this one; else -1
  Box space, clip;
};

struct Arrangement {
  Mode mode = Mode::Split;
  int count = 0;  // of what is compared
  std::array<double, 2> lines{.5,
                              2. / 3};  // Split: at these parts of the width; two of them where count is 3
  int picked = 0;                       // Single: which one
  double flicker_hz = 2;                // Flicker: changes a second
};

// No gap counts in Split; panes of SideBySide and of two differences are `gap` apart. Side by side they
// are in a row or a column, whichever draws a picture of this size larger. now: seconds, for Flicker.
// With one picture to show every mode is Single.
std::vector<Pane> panes_of(const Arrangement& arrangement, const Box& canvas, Extent picture, double gap,
                           double now);
// The picture that flicker shows at a time.
int flicker_index(double now, double hz, int count);
// Seconds until it shows another one.
double until_flicker(double now, double hz);
// Where the lines are when one is dragged to a part of the width: in order, within the canvas.
std::array<double, 2> drag_line(std::array<double, 2> lines, int count, int line, double to);
// The line within `reach` of x, the nearest first; -1: none.
int line_at(const Arrangement& arrangement, const Box& canvas, double x, double reach);
// The line of each of some things of these widths, in a row with gaps that goes on in the next line where it
// has no room. What is wider than a line has one of its own.
std::vector<int> folded(const std::vector<double>& widths, double gap, double room);
// The index of the pane under a point; -1: none.
int pane_at(const std::vector<Pane>& panes, Point at);

}  // namespace sagelab::ui
