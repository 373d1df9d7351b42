// SPDX-License-Identifier: Apache-2.0
// Text burnt into pixels: ASCII in stb's bitmap font; typographic quotes and
// dashes become plain ones, any other character "?".
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

namespace sagelab::media {

using Colour = std::array<uint8_t, 3>;

constexpr int kTextHeight = 12;  // of a line, at scale 1

struct Text {
  std::string text;
  int x = 0, y = 0;  // of its upper left corner
  int scale = 1;
  Colour colour{255, 255, 255};
};

int text_width(const std::string& text, int scale);
// The text, or with ".." for its end what is no wider.
std::string fitted(const std::string& text, int scale, int width);
// Into rgb [height, width, 3]; what lies outside is cut off.
void draw(const Text& text, std::span<uint8_t> rgb, int width);

}  // namespace sagelab::media
