// SPDX-License-Identifier: Apache-2.0
// The real binary on a terminal: a pseudo terminal whose foreground process it is, with somebody at the keys.
#pragma once

#include <poll.h>
#include <pty.h>
#include <termios.h>
#include <utmp.h>

#include <chrono>
#include <csignal>

#include "tests/app/program.h"

namespace sagelab::testing {

// Between the terminal and the binary stands a process that plays the shell: it owns the terminal, waits, and
// looks at the terminal once the binary is gone, since a terminal is reset when its owner ends.
class Terminal {
 public:
  explicit Terminal(std::vector<std::string> arguments) {
    int keyboard = -1;
    if (::openpty(&screen_, &keyboard, nullptr, nullptr, nullptr) != 0 || ::pipe(news_) != 0)
      throw std::runtime_error("no pseudo terminal");
    tcgetattr(keyboard, &first_);
    shell_ = ::fork();
    if (shell_ == 0) play_shell(keyboard, std::move(arguments));
    ::close(keyboard);
    ::close(news_[1]);
    if (::read(news_[0], &program_, sizeof program_) != sizeof program_)
      throw std::runtime_error("the binary did not start");
  }
  ~Terminal() {
    ::close(screen_);
    ::close(news_[0]);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  void press(const std::string& keys) const {
    ASSERT_EQ(::write(screen_, keys.data(), keys.size()), ssize_t(keys.size()));
  }
  void send(int signal) const { ::kill(program_, signal); }
  bool raw() const {
    termios now{};
    tcgetattr(screen_, &now);
    return !(now.c_lflag & ICANON);
  }
  // Whether the text came; reads on until it does or the program has ended.
  bool shows(const std::string& text) {
    while (text_.find(text, seen_) == std::string::npos)
      if (!read_more()) return false;
    seen_ = text_.find(text, seen_) + text.size();
    return true;
  }
  struct End {
    int status = 0;  // of waitpid
    termios terminal{};
  };
  End wait() {
    while (read_more()) {
    }
    End end;
    if (::read(news_[0], &end, sizeof end) != sizeof end) throw std::runtime_error("no word of the end");
    ::waitpid(shell_, nullptr, 0);
    return end;
  }
  bool as_at_first(const termios& now) const {
    return now.c_lflag == first_.c_lflag && now.c_iflag == first_.c_iflag && now.c_oflag == first_.c_oflag &&
           now.c_cc[VMIN] == first_.c_cc[VMIN] && now.c_cc[VTIME] == first_.c_cc[VTIME];
  }
  const std::string& text() const { return text_; }  // all that was shown

 private:
  [[noreturn]] void play_shell(int keyboard, std::vector<std::string> arguments) {
    ::close(screen_);
    ::close(news_[0]);
    ::login_tty(keyboard);
    std::signal(SIGINT, SIG_IGN);
    const pid_t program = ::fork();
    if (program == 0) {
      ::close(news_[1]);
      std::signal(SIGINT, SIG_DFL);
      arguments.insert(arguments.begin(), SAGELAB_BINARY);
      std::vector<char*> argv;
      for (auto& argument : arguments) argv.push_back(argument.data());
      argv.push_back(nullptr);
      ::execv(SAGELAB_BINARY, argv.data());
      ::_exit(127);
    }
    End end;
    bool told = ::write(news_[1], &program, sizeof program) == sizeof program;
    ::waitpid(program, &end.status, 0);
    tcgetattr(STDIN_FILENO, &end.terminal);
    told = told && ::write(news_[1], &end, sizeof end) == sizeof end;
    ::_exit(told ? 0 : 1);
  }
  bool read_more() {
    constexpr int kPatience = 60'000;  // ms
    pollfd input{screen_, POLLIN, 0};
    char bytes[4096];
    if (::poll(&input, 1, kPatience) != 1) return false;
    const ssize_t n = ::read(screen_, bytes, sizeof bytes);
    if (n <= 0) return false;
    text_.append(bytes, size_t(n));
    return true;
  }

  int screen_ = -1, news_[2] = {-1, -1};
  pid_t shell_ = 0, program_ = 0;
  termios first_{};
  std::string text_;
  size_t seen_ = 0;
};

}  // namespace sagelab::testing
