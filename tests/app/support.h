// SPDX-License-Identifier: Apache-2.0
// What the tests of the app share: a folder that goes away, a smooth clip, and the real binary run without a
// shell.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
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

struct ProgramResult {
  int exit_code = -1, signal = 0;
  std::string out, err;
};

class Program {
 public:
  // Starts the binary with these arguments; nothing between us and its argv.
  explicit Program(std::vector<std::string> arguments, const std::string& binary = SAGELAB_BINARY) {
    arguments.insert(arguments.begin(), binary);
    std::vector<char*> argv;
    for (auto& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC;
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, (folder_ / "out").c_str(), kFlags, 0600);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, (folder_ / "err").c_str(), kFlags, 0600);
    const int error = posix_spawn(&pid_, binary.c_str(), &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) throw std::runtime_error("cannot start " + binary);
  }
  pid_t pid() const { return pid_; }
  std::string err_so_far() const { return read_file(folder_ / "err"); }
  ProgramResult wait() const {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    ProgramResult result{.out = read_file(folder_ / "out"), .err = err_so_far()};
    if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
    return result;
  }

 private:
  TempFolder folder_;
  pid_t pid_ = 0;
};

inline ProgramResult run_sagelab(std::vector<std::string> arguments) {
  return Program(std::move(arguments)).wait();
}

}  // namespace sagelab::testing
