// SPDX-License-Identifier: Apache-2.0
// What the tests of the app share: a folder that goes away, a small disk, a smooth clip.
#pragma once

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "pipelines/frames.h"

namespace sagelab::testing {

namespace fs = std::filesystem;

class TempFolder {
 public:
  TempFolder() {
    std::string name = (fs::temp_directory_path() / "sagelab-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~TempFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  fs::path operator/(const std::string& name) const { return path_ / name; }
  const fs::path& path() const { return path_; }
  std::set<std::string> names() const {
    std::set<std::string> all;
    for (const auto& entry : fs::directory_iterator(path_)) all.insert(entry.path().filename().string());
    return all;
  }

 private:
  fs::path path_;
};

inline std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

inline void write_file(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// A file system of its own; needs the right to mount.
class SmallDisk {
 public:
  SmallDisk(const fs::path& place, const std::string& options) : place_(place) {
    fs::create_directory(place_);
    mounted_ = ::mount("none", place_.c_str(), "tmpfs", 0, options.c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount(place_.c_str());
  }
  bool mounted() const { return mounted_; }
  void make_read_only() const { ::mount("none", place_.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, nullptr); }

 private:
  fs::path place_;
  bool mounted_ = false;
};

// Waves of colour that move slowly: what a codec keeps well.
inline Picture smooth_clip(int frames, int width, int height) {
  Picture picture{.frames = frames, .height = height, .width = width, .pixels = {}};
  for (int t = 0; t < frames; ++t)
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x)
        for (int c = 0; c < 3; ++c)
          picture.pixels.push_back(uint8_t(127.5 + 100 * std::sin(0.05 * x + 0.04 * y + 0.1 * t + 2.1 * c)));
  return picture;
}

}  // namespace sagelab::testing
