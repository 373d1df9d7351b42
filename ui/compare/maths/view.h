// SPDX-License-Identifier: Apache-2.0
// Pan and zoom: where a picture lies on the screen. Screen and picture are in pixels, y down.
#pragma once

namespace sagelab::ui {

struct Point {
  double x = 0, y = 0;
};

struct Box {
  double x0 = 0, y0 = 0, x1 = 0, y1 = 0;
  double width() const { return x1 - x0; }
  double height() const { return y1 - y0; }
  Point middle() const { return {(x0 + x1) / 2, (y0 + y1) / 2}; }
  bool has(Point p) const { return p.x >= x0 && p.x < x1 && p.y >= y0 && p.y < y1; }
};

struct Extent {
  double width = 0, height = 0;
  bool operator==(const Extent&) const = default;
};

// The same for all panes: what lies in the middle of a pane, and how large it is drawn.
class View {
 public:
  // The whole picture, as large as the pane allows: an integer scale where it is enlarged. Stays so
  // when pane or picture change, until somebody zooms or pans.
  void fit();
  // One pixel of the picture on one of the screen, about its middle.
  void actual_size();
  // What is at `anchor` in the pane stays there. factor > 1 enlarges; up to 256 screen pixels a pixel.
  void zoom(double factor, Point anchor, const Box& pane);
  void pan(Point screen_pixels);

  // Once a frame: the picture's size, the same for all panes, and that of a pane. Where the picture's size
  // changes (a preview gives way to the result), the same part of it stays in sight.
  void arrange(Extent picture, const Box& pane);

  double scale() const { return scale_; }
  bool fits() const { return fits_; }
  Extent picture() const { return picture_; }
  Point to_screen(Point picture, const Box& pane) const;
  Point to_picture(Point screen, const Box& pane) const;
  Box picture_on_screen(const Box& pane) const;

 private:
  void keep_in_sight();
  Extent picture_;
  Point center_;  // of the pane, in the picture
  double scale_ = 1;
  bool fits_ = true;
};

// The scale that fit() takes.
double fitting_scale(Extent picture, const Box& pane);

}  // namespace sagelab::ui
