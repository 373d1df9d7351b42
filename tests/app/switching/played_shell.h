// SPDX-License-Identifier: Apache-2.0
// Between the terminal and the binary stands a process that plays the shell: it owns the terminal, waits, and
// looks at the terminal once the binary is gone, since a terminal is reset when its owner ends. A binary that
// stops loses the foreground to it, until it is told to go on.
#pragma once

#include <termios.h>
#include <utmp.h>

#include <csignal>

#include "tests/app/program.h"

namespace sagelab::testing {

struct PlayedShell {
  // Told of every stop, and of the end.
  struct End {
    int status = 0;  // of waitpid
    termios terminal{};
  };

  int keyboard, news, orders;  // news: the binary's id, then Ends; orders: 'f' and 'b', as fg and bg
  termios first;               // what it gives itself at a stop

  [[noreturn]] void play(std::vector<std::string> arguments) const {
    ::login_tty(keyboard);
    std::signal(SIGTTOU, SIG_IGN);
    const pid_t program = ::fork();
    if (program == 0) become(std::move(arguments));
    End end;
    bool told = ::write(news, &program, sizeof program) == sizeof program;
    do {
      ::waitpid(program, &end.status, WUNTRACED);
      tcgetattr(STDIN_FILENO, &end.terminal);
      ::tcsetpgrp(STDIN_FILENO, ::getpgrp());
      if (WIFSTOPPED(end.status)) tcsetattr(STDIN_FILENO, TCSANOW, &first);
      told = told && ::write(news, &end, sizeof end) == sizeof end;
    } while (WIFSTOPPED(end.status) && obey(program));
    ::_exit(told ? 0 : 1);
  }

 private:
  [[noreturn]] void become(std::vector<std::string> arguments) const {
    ::close(news);
    ::close(orders);
    ::setpgid(0, 0);
    ::tcsetpgrp(STDIN_FILENO, ::getpid());
    std::signal(SIGTTOU, SIG_DFL);
    arguments.insert(arguments.begin(), SAGELAB_BINARY);
    std::vector<char*> argv;
    for (auto& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    ::execv(SAGELAB_BINARY, argv.data());
    ::_exit(127);
  }
  // The orders of a stop, up to the foreground. False once nobody gives any.
  bool obey(pid_t program) const {
    for (char order = 0; ::read(orders, &order, 1) == 1;) {
      if (order == 'f') ::tcsetpgrp(STDIN_FILENO, program);
      ::kill(-program, SIGCONT);
      if (order == 'f') return true;
    }
    return false;
  }
};

}  // namespace sagelab::testing
