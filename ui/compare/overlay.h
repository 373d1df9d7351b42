// SPDX-License-Identifier: Apache-2.0
// What is drawn over the pictures: pixel grid and values, labels, the help.
#pragma once

#include <imgui.h>

#include <string>

#include "ui/compare/maths/layout.h"
#include "ui/compare/maths/pixels.h"

namespace sagelab::ui {

inline ImVec2 vec2(double x, double y) {
  return {float(x), float(y)};
}

// Screen pixels a pixel, from which on its edges and its values are drawn, at 96 dots per inch.
inline constexpr float kGridFrom = 10, kValuesFrom = 40;

// In a pane that shows `shot`; or, with a picture in `against`, shot minus against, signed. drawn: what lies
// below, which the numbers are to be readable on.
struct PixelOverlay {
  const View& view;
  const Pane& pane;
  Shot shot, against, drawn;
};
void draw_grid(const PixelOverlay& overlay);
// Three numbers in each pixel that is in sight. How many pixels were labelled.
int draw_values(const PixelOverlay& overlay);

// Text on a dark plate, in a corner of the pane's visible part: title, and a smaller line below it.
void draw_label(const Box& clip, const std::string& title, const std::string& below);
void draw_split_line(const Box& canvas, double x, bool active);
// All keys: over the canvas, or over the whole window where the canvas is small. False once clicked away.
bool draw_help(const Box& canvas);

}  // namespace sagelab::ui
