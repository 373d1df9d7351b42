// SPDX-License-Identifier: Apache-2.0
// States with results in them, for tests.
#pragma once

#include <memory>

#include "ui/state.h"

namespace sagelab::ui {

// Every pixel of frame t is (value, t, 0).
inline std::shared_ptr<const Picture> plain_picture(int frames, int width, int height, uint8_t value) {
  auto picture = std::make_shared<Picture>();
  picture->frames = frames, picture->width = width, picture->height = height;
  const size_t area = size_t(width) * size_t(height);
  picture->pixels.resize(size_t(frames) * area * 3);
  for (size_t i = 0; i < size_t(frames) * area; ++i) {
    picture->pixels[i * 3] = value;
    picture->pixels[i * 3 + 1] = uint8_t(i / area);
  }
  return picture;
}

inline Result result_of(Id id, std::shared_ptr<const Picture> picture, double step) {
  Result result;
  result.id = id;
  result.title = "sdpa, seed 7";
  result.frames.picture = std::move(picture);
  result.frames.fps = 8;
  result.frames.request.device = "cuda";
  result.median_step = step;
  return result;
}

// a: 1, value 100, 0.3 s a step; b: 2, value 110, 0.2 s; both 16 x 8 with 16 frames.
inline State two_results() {
  State state;
  state.results = {result_of(1, plain_picture(16, 16, 8, 100), .3),
                   result_of(2, plain_picture(16, 16, 8, 110), .2)};
  state.results[1].title = "sage2, seed 7";
  state.compared = {1, 2, 0};
  return state;
}

}  // namespace sagelab::ui
