// SPDX-License-Identifier: Apache-2.0
// Values of single pixels, and pictures of what differs.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "pipelines/frames.h"
#include "ui/compare/maths/view.h"

namespace sagelab::ui {

using Rgb = std::array<uint8_t, 3>;

// A frame of a picture; a picture and its frame stay the same as long as they are shown.
struct Shot {
  std::shared_ptr<const Picture> picture;
  int frame = 0;
  bool operator==(const Shot&) const = default;
};

// The pixel at a place of a canvas of this extent, over which the whole picture is stretched: a preview may
// be smaller than the result beside it. Nothing outside of it.
std::optional<Rgb> value_at(const Shot& shot, Extent canvas, Point at);

enum class DifferenceKind { Signed, Absolute };

// shown minus against, in levels of 255, as colours.
// Signed: of the channel that differs most, so that opposite changes never cancel: red where it is more, blue
// where it is less, black where they are equal. Absolute: of each channel by itself. gain: 1 is full colour
// at a difference of 255; 16 at one of 16.
struct DifferenceLook {
  DifferenceKind kind = DifferenceKind::Signed;
  double gain = 8;
  bool operator==(const DifferenceLook&) const = default;
};

std::array<int, 3> difference(const Rgb& shown, const Rgb& against);
Rgb colour_of_difference(const std::array<int, 3>& difference, const DifferenceLook& look);
// One frame, as large as the larger of the two in each direction; the smaller one is stretched.
Picture difference_picture(const Shot& shown, const Shot& against, const DifferenceLook& look);

}  // namespace sagelab::ui
