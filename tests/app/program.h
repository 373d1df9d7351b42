// SPDX-License-Identifier: Apache-2.0
// The real binary, run without a shell.
#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/app/support.h"

namespace sagelab::testing {

struct ProgramResult {
  int exit_code = -1, signal = 0;
  std::string out, err;
};

class Program {
 public:
  // Starts the binary with these arguments; nothing between us and its argv.
  // out: where its stdout goes; empty: into wait()'s result. binary: another place of it.
  explicit Program(std::vector<std::string> arguments, const std::string& out = {},
                   const std::string& binary = SAGELAB_BINARY) {
    arguments.insert(arguments.begin(), binary);
    std::vector<char*> argv;
    for (auto& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC;
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO,
                                     out.empty() ? (folder_ / "out").c_str() : out.c_str(), kFlags, 0600);
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
