// SPDX-License-Identifier: Apache-2.0
// Folders and files that tests make byte by byte, and what an error says.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "attention/error.h"

namespace sagelab::testing {

namespace fs = std::filesystem;

// A fresh folder of the running test, gone with the object.
class Folder {
 public:
  Folder() {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    std::string name = std::string(test->test_suite_name()) + "." + test->name();
    for (char& c : name)
      if (c == '/') c = '_';
    make(fs::temp_directory_path() / ("sagelab_" + std::to_string(::getpid()) + "_" + name));
  }
  explicit Folder(const fs::path& path) { make(path); }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  fs::path operator/(const std::string& name) const { return path_ / name; }
  const fs::path& path() const { return path_; }
  std::string str() const { return path_.string(); }
  fs::path write(const std::string& name, const std::string& bytes) const {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << bytes;
    return path_ / name;
  }

 private:
  void make(const fs::path& path) {
    path_ = path;
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  fs::path path_;
};

inline std::string read_bytes(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  return text.str();
}

inline std::string little_endian(uint64_t value) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[i] = char(value >> (8 * i) & 0xff);
  return bytes;
}

inline std::string safetensors(const std::string& header, const std::string& data = {}) {
  return little_endian(header.size()) + header + data;
}

// "<what> | <hint>" of the sagelab::Error that it throws; empty if it throws none.
inline std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return std::string(error.what()) + " | " + error.hint();
  }
  return {};
}

}  // namespace sagelab::testing
