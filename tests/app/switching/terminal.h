// SPDX-License-Identifier: Apache-2.0
// The real binary on a terminal: a pseudo terminal whose foreground process it is, with somebody at the keys.
#pragma once

#include <poll.h>
#include <pty.h>
#include <termios.h>

#include <csignal>

#include "tests/app/switching/played_shell.h"

namespace sagelab::testing {

class Terminal {
 public:
  // Whether this system gives any: a bare chroot has no /dev/pts.
  static bool is_there() {
    int screen = -1, keyboard = -1;
    if (::openpty(&screen, &keyboard, nullptr, nullptr, nullptr) != 0) return false;
    return ::close(screen) == 0 && ::close(keyboard) == 0;
  }
  explicit Terminal(std::vector<std::string> arguments) {
    int keyboard = -1;
    if (::openpty(&screen_, &keyboard, nullptr, nullptr, nullptr) != 0 || ::pipe(news_) != 0 ||
        ::pipe(orders_) != 0)
      throw std::runtime_error("no pseudo terminal");
    tcgetattr(keyboard, &first_);
    shell_ = ::fork();
    if (shell_ == 0) {
      ::close(screen_);
      ::close(news_[0]);
      ::close(orders_[1]);
      PlayedShell{keyboard, news_[1], orders_[0], first_}.play(std::move(arguments));
    }
    ::close(keyboard);
    ::close(news_[1]);
    ::close(orders_[0]);
    if (::read(news_[0], &program_, sizeof program_) != sizeof program_)
      throw std::runtime_error("the binary did not start");
  }
  ~Terminal() {
    ::close(screen_);
    ::close(news_[0]);
    ::close(orders_[1]);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  void press(const std::string& keys) const {
    ASSERT_EQ(::write(screen_, keys.data(), keys.size()), ssize_t(keys.size()));
  }
  void send(int signal) const { ::kill(program_, signal); }
  bool raw() const { return !(now().c_lflag & ICANON); }
  termios now() const {
    termios now{};
    tcgetattr(screen_, &now);
    return now;
  }
  // Within a second.
  bool becomes_raw() const {
    for (int i = 0; i < 100 && !raw(); ++i) ::usleep(10'000);
    return raw();
  }
  // Whether the text came; reads on until it does or the program has ended.
  bool shows(const std::string& text) {
    while (text_.find(text, seen_) == std::string::npos)
      if (!read_more()) return false;
    seen_ = text_.find(text, seen_) + text.size();
    return true;
  }
  using End = PlayedShell::End;
  End wait() {
    while (read_more()) {
    }
    const End end = news();
    ::waitpid(shell_, nullptr, 0);
    return end;
  }
  // Once it has stopped; the terminal is then as the binary left it.
  End stopped() const { return news(); }
  // As a shell's fg does, with the terminal as the shell had it, and as bg does. Ends with foreground().
  void foreground() const { order('f'); }
  void background() const { order('b'); }
  bool as_at_first(const termios& now) const {
    return now.c_lflag == first_.c_lflag && now.c_iflag == first_.c_iflag && now.c_oflag == first_.c_oflag &&
           now.c_cc[VMIN] == first_.c_cc[VMIN] && now.c_cc[VTIME] == first_.c_cc[VTIME];
  }
  const std::string& text() const { return text_; }  // all that was shown

 private:
  void order(char what) const {
    if (::write(orders_[1], &what, 1) != 1) throw std::runtime_error("the shell is gone");
  }
  End news() const {
    End end;
    if (::read(news_[0], &end, sizeof end) != sizeof end) throw std::runtime_error("no word of the binary");
    return end;
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

  int screen_ = -1, news_[2] = {-1, -1}, orders_[2] = {-1, -1};
  pid_t shell_ = 0, program_ = 0;
  termios first_{};
  std::string text_;
  size_t seen_ = 0;
};

}  // namespace sagelab::testing
