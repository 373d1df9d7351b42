// SPDX-License-Identifier: Apache-2.0
#include "app/compare/pictures.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "app/media/text.h"

namespace sagelab {
namespace {

constexpr int kGap = 8, kMostGain = 64, kSheetColumns = 6;
constexpr uint8_t kGround = 24;
constexpr media::Colour kBright{255, 255, 255}, kDim{176, 176, 176};

// How a frame is shown: every pixel `up` times as large, or the mean of `down` x `down`.
struct Scale {
  int up = 1, down = 1;
  int of(int length) const { return length * up / down; }
};

Scale scale_for(int width, int least, int most) {
  if (width < least) return {(least + width - 1) / width, 1};
  return {1, std::max(1, (width + most - 1) / most)};
}

struct Corner {
  int x = 0, y = 0;
};

struct Sheet {
  int width = 0, height = 0;
  std::span<uint8_t> rgb;

  void show(const Picture& picture, int t, Corner at, Scale scale) const {
    const auto frame = picture.frame(t);
    const int w = scale.of(picture.width), h = scale.of(picture.height), n = scale.down;
    for (int y = 0; y < h; ++y)
      for (int x = 0; x < w; ++x)
        for (int c = 0; c < 3; ++c) {
          int sum = 0;
          for (int dy = 0; dy < n; ++dy)
            for (int dx = 0; dx < n; ++dx)
              sum +=
                  frame[(size_t((y * n / scale.up) + dy) * picture.width + (x * n / scale.up) + dx) * 3 + c];
          rgb[(size_t(at.y + y) * width + at.x + x) * 3 + c] = uint8_t((sum + n * n / 2) / (n * n));
        }
  }
  void write(const std::string& text, Corner at, int scale, media::Colour colour) const {
    const int room = width - at.x - kGap;
    media::draw({media::fitted(text, scale, room), at.x, at.y, scale, colour}, rgb, width);
  }
};

int even(int length) {
  return length + length % 2;
}

Picture blank(int frames, int width, int height) {
  Picture picture{.frames = frames, .height = height, .width = width, .pixels = {}};
  picture.pixels.assign(size_t(frames) * height * width * 3, kGround);
  return picture;
}

Sheet sheet_of(Picture& picture, int t) {
  const size_t bytes = size_t(picture.height) * picture.width * 3;
  return {picture.width, picture.height, {picture.pixels.data() + bytes * t, bytes}};
}

}  // namespace

int gain_for(const Picture& picture, const Picture& reference) {
  std::array<int64_t, 256> counts{};
  for (size_t i = 0; i < picture.pixels.size(); ++i)
    counts[size_t(std::abs(int(picture.pixels[i]) - int(reference.pixels[i])))] += 1;
  int64_t above = int64_t(picture.pixels.size()) - counts[0];
  const int64_t few = above / 1000;
  int largest = 0;
  while (above > few) above -= counts[size_t(++largest)];
  int gain = 1;
  while (largest > 0 && gain < kMostGain && largest * gain * 2 <= 255) gain *= 2;
  return gain;
}

Picture difference(const Picture& picture, const Picture& reference, int gain) {
  Picture out = picture;
  for (size_t i = 0; i < out.pixels.size(); ++i)
    out.pixels[i] =
        uint8_t(std::min(255, std::abs(int(picture.pixels[i]) - int(reference.pixels[i])) * gain));
  return out;
}

Picture side_by_side(const std::vector<VideoPanel>& panels, int columns, double fps) {
  const auto& first = *panels.front().picture;
  const Scale scale = scale_for(first.width, 320, 1 << 30);
  const int w = scale.of(first.width), h = scale.of(first.height);
  const int letters = std::clamp(w / 190, 1, 3), line = (media::kTextHeight + 1) * letters;
  const int head = 3 * line, rows = (int(panels.size()) + columns - 1) / columns;
  Picture out = blank(first.frames, even(columns * (w + kGap) + kGap), even(rows * (h + head + kGap) + kGap));
  for (int t = 0; t < out.frames; ++t) {
    const Sheet sheet = sheet_of(out, t);
    for (int i = 0; i < int(panels.size()); ++i) {
      const VideoPanel& panel = panels[size_t(i)];
      const Corner at{kGap + i % columns * (w + kGap), kGap + i / columns * (h + head + kGap)};
      const auto text = [&](const std::string& words, int row, media::Colour colour) {
        media::draw({media::fitted(words, letters, w), at.x, at.y + row * line, letters, colour}, sheet.rgb,
                    sheet.width);
      };
      text(panel.title, 0, kBright);
      text(panel.figures, 1, kDim);
      text(&panel == &panels.back() ? fmt::format("frame {} of {}, t = {:.2f} s", t + 1, out.frames, t / fps)
                                    : panel.note,
           2, kDim);
      sheet.show(*panel.picture, t, {at.x, at.y + head}, scale);
    }
  }
  return out;
}

Picture contact_sheet(const std::vector<VideoPanel>& panels, const std::string& title) {
  const auto& first = *panels.front().picture;
  const Scale scale = scale_for(first.width, 192, 320);
  const int w = scale.of(first.width), h = scale.of(first.height);
  const int columns = std::min(first.frames, kSheetColumns), letters = 2;
  const int line = (media::kTextHeight + 1) * letters, row = line + h + kGap;
  const int width = std::max(columns, 2) * (w + kGap) + kGap;
  Picture out = blank(1, width, kGap + line + kGap + int(panels.size()) * row);
  const Sheet sheet = sheet_of(out, 0);
  sheet.write(title, {kGap, kGap}, letters, kBright);
  for (int i = 0; i < int(panels.size()); ++i) {
    const VideoPanel& panel = panels[size_t(i)];
    const int y = kGap + line + kGap + i * row;
    sheet.write(fmt::format("{}   {}   {}", panel.title, panel.figures, panel.note), {kGap, y}, letters,
                kDim);
    for (int c = 0; c < columns; ++c) {
      const int t = columns == 1 ? 0 : c * (first.frames - 1) / (columns - 1);
      sheet.show(*panel.picture, t, {kGap + c * (w + kGap), y + line}, scale);
    }
  }
  return out;
}

}  // namespace sagelab
