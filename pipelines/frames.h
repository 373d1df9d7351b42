// SPDX-License-Identifier: Apache-2.0
// What a run gives back. Plain C++.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "pipelines/request.h"

namespace sagelab {

// uint8 [T, H, W, 3], contiguous; an image has T = 1.
struct Picture {
  int frames = 0, height = 0, width = 0;
  std::vector<uint8_t> pixels;
  std::span<const uint8_t> frame(int t) const {
    const size_t bytes = size_t(height) * width * 3;
    return {pixels.data() + bytes * t, bytes};
  }
};

// Seconds, who served what, memory: JSON from the start, since every reader of it (file, window, test) wants
// JSON.
struct Frames {
  std::shared_ptr<const Picture> picture;
  double fps = 8;
  Request request;        // resolved: every automatic choice filled in
  nlohmann::json report;  // see app/report
};

}  // namespace sagelab
