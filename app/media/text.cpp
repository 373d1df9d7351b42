// SPDX-License-Identifier: Apache-2.0
#include "app/media/text.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_easy_font.h>
#pragma GCC diagnostic pop

namespace sagelab::media {
namespace {

struct Vertex {
  float x, y, z;
  uint8_t colour[4];
};
struct Quad {
  Vertex corners[4];  // from the upper left clockwise
};
constexpr size_t kQuadsPerLetter = 16;

// Typographic punctuation of prompts, as a typewriter has it.
constexpr std::pair<std::string_view, std::string_view> kPlain[] = {
    {"\u2018", "'"}, {"\u2019", "'"}, {"\u201C", "\""},  {"\u201D", "\""},
    {"\u2013", "-"}, {"\u2014", "-"}, {"\u2026", "..."}, {"\u00A0", " "}};

// One "?" for each other character that the font has not, however many bytes it takes.
std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto* plain = std::find_if(std::begin(kPlain), std::end(kPlain),
                                     [&](const auto& entry) { return text.starts_with(entry.first); });
    const auto byte = uint8_t(text.front());
    if (plain != std::end(kPlain))
      out += plain->second;
    else if ((byte & 0xC0) != 0x80)
      out += byte < 0x20 || byte > 0x7E ? '?' : char(byte);
    text.remove_prefix(plain != std::end(kPlain) ? plain->first.size() : 1);
  }
  return out;
}

}  // namespace

int text_width(const std::string& text, int scale) {
  std::string letters = printable(text);
  return stb_easy_font_width(letters.data()) * scale;
}

std::string fitted(const std::string& text, int scale, int width) {
  std::string letters = printable(text);
  if (text_width(letters, scale) <= width) return letters;
  while (!letters.empty() && text_width(letters + "..", scale) > width) letters.pop_back();
  return letters + "..";
}

void draw(const Text& text, std::span<uint8_t> rgb, int width) {
  std::string letters = printable(text.text);
  std::vector<Quad> quads(letters.size() * kQuadsPerLetter);
  const int count =
      stb_easy_font_print(0, 0, letters.data(), nullptr, quads.data(), int(quads.size() * sizeof(Quad)));
  const int height = int(rgb.size() / 3) / width;
  for (int i = 0; i < count; ++i) {
    const Vertex &from = quads[size_t(i)].corners[0], &to = quads[size_t(i)].corners[2];
    const int left = std::max(text.x + int(from.x) * text.scale, 0),
              right = std::min(text.x + int(to.x) * text.scale, width);
    const int top = std::max(text.y + int(from.y) * text.scale, 0),
              bottom = std::min(text.y + int(to.y) * text.scale, height);
    for (int y = top; y < bottom; ++y)
      for (int x = left; x < right; ++x)
        std::copy(text.colour.begin(), text.colour.end(), rgb.begin() + (int64_t(y) * width + x) * 3);
  }
}

}  // namespace sagelab::media
