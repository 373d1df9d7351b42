// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/maths/pixels.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

namespace sagelab::ui {
namespace {

constexpr std::array<double, 3> kMore{255, 88, 40}, kLess{40, 136, 255};

Rgb pixel(std::span<const uint8_t> frame, size_t index) {
  return {frame[index * 3], frame[index * 3 + 1], frame[index * 3 + 2]};
}

// For each of n places, which of m it falls on: nearest, edges on edges.
std::vector<int> spread(int n, int m) {
  std::vector<int> all(size_t(n), 0);
  for (int i = 0; i < n; ++i) all[size_t(i)] = int(int64_t(i) * m / n);
  return all;
}

uint8_t level(double value) {
  return uint8_t(std::lround(std::clamp(value, 0., 255.)));
}

// Of every difference that a channel can have, at this look: a table is what keeps large frames quick.
struct Colours {
  std::array<Rgb, 511> signed_;
  std::array<uint8_t, 511> absolute;
  explicit Colours(double gain) {
    for (int d = -255; d <= 255; ++d) {
      const double part = std::min(std::abs(d) * gain / 255, 1.);
      const auto& full = d > 0 ? kMore : kLess;
      for (size_t c = 0; c < 3; ++c) signed_[size_t(d + 255)][c] = level(part * full[c]);
      absolute[size_t(d + 255)] = level(part * 255);
    }
  }
  Rgb operator()(const std::array<int, 3>& d, DifferenceKind kind) const {
    if (kind == DifferenceKind::Absolute)
      return {absolute[size_t(d[0] + 255)], absolute[size_t(d[1] + 255)], absolute[size_t(d[2] + 255)]};
    int most = d[0];
    for (const int x : d)
      if (std::abs(x) > std::abs(most)) most = x;
    return signed_[size_t(most + 255)];
  }
};

}  // namespace

std::optional<Rgb> value_at(const Shot& shot, Extent canvas, Point at) {
  if (!shot.picture || canvas.width <= 0 || canvas.height <= 0) return {};
  const auto& p = *shot.picture;
  const double x = std::floor(at.x * p.width / canvas.width), y = std::floor(at.y * p.height / canvas.height);
  if (x < 0 || y < 0 || x >= p.width || y >= p.height || shot.frame < 0 || shot.frame >= p.frames) return {};
  return pixel(p.frame(shot.frame), size_t(y) * size_t(p.width) + size_t(x));
}

std::array<int, 3> difference(const Rgb& shown, const Rgb& against) {
  return {int(shown[0]) - against[0], int(shown[1]) - against[1], int(shown[2]) - against[2]};
}

Rgb colour_of_difference(const std::array<int, 3>& d, const DifferenceLook& look) {
  return Colours(look.gain)(d, look.kind);
}

Picture difference_picture(const Shot& shown, const Shot& against, const DifferenceLook& look) {
  const auto &a = *shown.picture, &b = *against.picture;
  Picture made;
  made.frames = 1;
  made.width = std::max(a.width, b.width), made.height = std::max(a.height, b.height);
  made.pixels.resize(size_t(made.width) * size_t(made.height) * 3);
  const auto from_a = a.frame(shown.frame), from_b = b.frame(against.frame);
  const auto ax = spread(made.width, a.width), ay = spread(made.height, a.height);
  const auto bx = spread(made.width, b.width), by = spread(made.height, b.height);
  const Colours colours(look.gain);
  uint8_t* out = made.pixels.data();
  for (size_t y = 0; y < size_t(made.height); ++y) {
    const size_t row_a = size_t(ay[y]) * size_t(a.width), row_b = size_t(by[y]) * size_t(b.width);
    for (size_t x = 0; x < size_t(made.width); ++x, out += 3) {
      const auto d = difference(pixel(from_a, row_a + size_t(ax[x])), pixel(from_b, row_b + size_t(bx[x])));
      const Rgb colour = colours(d, look.kind);
      std::copy(colour.begin(), colour.end(), out);
    }
  }
  return made;
}

}  // namespace sagelab::ui
