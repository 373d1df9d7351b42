// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/maths/view.h"

#include <algorithm>
#include <cmath>

namespace sagelab::ui {
namespace {

constexpr double kSmallest = 1. / 32, kLargest = 256;

}  // namespace

double fitting_scale(Extent picture, const Box& pane) {
  if (picture.width <= 0 || picture.height <= 0) return 1;
  const double most = std::min(pane.width() / picture.width, pane.height() / picture.height);
  return std::clamp(most >= 1 ? std::floor(most) : most, kSmallest, kLargest);
}

void View::fit() {
  fits_ = true;
}

void View::actual_size() {
  fits_ = false;
  scale_ = 1;
  center_ = {picture_.width / 2, picture_.height / 2};
}

void View::zoom(double factor, Point anchor, const Box& pane) {
  const Point held = to_picture(anchor, pane);
  scale_ = std::clamp(scale_ * factor, kSmallest, kLargest);
  fits_ = false;
  const Point middle = pane.middle();
  center_ = {held.x - (anchor.x - middle.x) / scale_, held.y - (anchor.y - middle.y) / scale_};
  keep_in_sight();
}

void View::pan(Point by) {
  if (by.x == 0 && by.y == 0) return;
  fits_ = false;
  center_ = {center_.x - by.x / scale_, center_.y - by.y / scale_};
  keep_in_sight();
}

void View::keep_in_sight() {
  center_.x = std::clamp(center_.x, 0., picture_.width);
  center_.y = std::clamp(center_.y, 0., picture_.height);
}

void View::arrange(Extent picture, const Box& pane) {
  if (!(picture == picture_)) {
    if (picture_.width > 0 && picture_.height > 0) {
      const double x = picture.width / picture_.width, y = picture.height / picture_.height;
      center_ = {center_.x * x, center_.y * y};
      scale_ = std::clamp(scale_ / x, kSmallest, kLargest);
    }
    picture_ = picture;
  }
  if (!fits_) return;
  scale_ = fitting_scale(picture, pane);
  center_ = {picture.width / 2, picture.height / 2};
}

Point View::to_screen(Point p, const Box& pane) const {
  const Point middle = pane.middle();
  return {middle.x + (p.x - center_.x) * scale_, middle.y + (p.y - center_.y) * scale_};
}

Point View::to_picture(Point p, const Box& pane) const {
  const Point middle = pane.middle();
  return {center_.x + (p.x - middle.x) / scale_, center_.y + (p.y - middle.y) / scale_};
}

Box View::picture_on_screen(const Box& pane) const {
  const Point from = to_screen({0, 0}, pane), to = to_screen({picture_.width, picture_.height}, pane);
  return {from.x, from.y, to.x, to.y};
}

}  // namespace sagelab::ui
