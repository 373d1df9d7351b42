// SPDX-License-Identifier: Apache-2.0
// The PNG frames of an output folder.
#pragma once

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <filesystem>
#include <stdexcept>
#include <vector>

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image.h>
#pragma GCC diagnostic pop

namespace sagelab::testing {

inline at::Tensor read_png(const std::filesystem::path& file) {  // uint8 [H, W, 3]
  int w = 0, h = 0, channels = 0;
  auto* pixels = stbi_load(file.c_str(), &w, &h, &channels, 3);
  if (!pixels) throw std::runtime_error("no picture " + file.string());
  const auto picture = at::from_blob(pixels, {h, w, 3}, at::kByte).clone();
  stbi_image_free(pixels);
  return picture;
}

inline at::Tensor read_frames(const std::filesystem::path& folder, int64_t count) {  // uint8 [T, H, W, 3]
  std::vector<at::Tensor> frames;
  for (int64_t t = 0; t < count; ++t) frames.push_back(read_png(folder / fmt::format("frame_{:04}.png", t)));
  return at::stack(frames);
}

}  // namespace sagelab::testing
