// SPDX-License-Identifier: Apache-2.0
#include "app/terminal/keys.h"

#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>

namespace sagelab {
namespace {

// What a handler may touch. One Keys at a time has the terminal.
termios g_before;
std::atomic<bool> g_raw = false, g_over = false, g_away = false;  // away: from Ctrl-Z until it goes on
static_assert(std::atomic<bool>::is_always_lock_free);

constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGABRT, SIGTSTP};
std::array<struct sigaction, kSignals.size()> g_actions;
std::array<std::atomic<bool>, kSignals.size()> g_handled;

bool in_foreground() {
  return tcgetpgrp(STDIN_FILENO) == getpgrp();
}

// In the background it is the shell's, and touching it would stop us.
void give_terminal_back() {
  if (g_raw.exchange(false) && in_foreground()) tcsetattr(STDIN_FILENO, TCSANOW, &g_before);
}

void restore_action(size_t i) {
  if (g_handled[i].exchange(false)) sigaction(kSignals[i], &g_actions[i], nullptr);
}

// Then what the signal does without us: it is sent again, and waits for the end of this handler, but for a
// stop. That happens in here, or another thread could take the terminal in between.
void on_signal(int signal) {
  (signal == SIGTSTP ? g_away : g_over) = true;
  give_terminal_back();
  for (size_t i = 0; i < kSignals.size(); ++i)
    if (kSignals[i] == signal) restore_action(i);
  if (signal == SIGTSTP) {
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTSTP);
    pthread_sigmask(SIG_UNBLOCK, &stop, nullptr);
  }
  raise(signal);
  g_away = false;
}

void handle_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (size_t i = 0; i < kSignals.size(); ++i) {
    if (g_handled[i]) continue;
    sigaction(kSignals[i], nullptr, &g_actions[i]);
    if (g_actions[i].sa_handler == SIG_IGN) continue;  // as nohup asks for
    g_handled[i] = true;
    sigaction(kSignals[i], &action, nullptr);
  }
}

// At first, and whenever the process comes back after having been stopped: a shell sets the terminal as it
// likes it even where no handler of ours ran, as for SIGSTOP.
void take_terminal() {
  const bool ours = g_raw;  // asked first: a handler that gives the terminal back must not make ours g_before
  termios now{};
  if (tcgetattr(STDIN_FILENO, &now) != 0 || (ours && !(now.c_lflag & ICANON))) return;
  g_raw = false;
  g_before = now;
  termios raw = g_before;
  raw.c_lflag &= ~tcflag_t(ICANON | ECHO);
  raw.c_cc[VMIN] = 0;
  raw.c_cc[VTIME] = 0;
  handle_signals();
  g_raw = true;
  if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) != 0) g_raw = false;
  if (g_raw && !g_over && !g_away) return;
  g_raw = true;  // a signal came in between, and what it gave back was taken after that
  give_terminal_back();
}

}  // namespace

Keys::Keys() {
  g_over = false;
  if (in_foreground()) take_terminal();
}

Keys::~Keys() {
  give_terminal_back();
  for (size_t i = 0; i < kSignals.size(); ++i) restore_action(i);
}

std::optional<char> Keys::take() {
  if (g_over || g_away || !in_foreground()) return std::nullopt;
  take_terminal();
  pollfd input{STDIN_FILENO, POLLIN, 0};
  char key = 0;
  if (!g_raw || poll(&input, 1, 0) != 1 || !(input.revents & POLLIN)) return std::nullopt;
  return read(STDIN_FILENO, &key, 1) == 1 ? std::optional(key) : std::nullopt;
}

}  // namespace sagelab
