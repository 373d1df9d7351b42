// SPDX-License-Identifier: Apache-2.0
// The window's own loop over a Program.
#pragma once

#include <functional>

#include "app/gui/program.h"
#include "ui/platform/window.h"

namespace sagelab::gui {

// Of the window's thread over its life.
struct LoopTimes {
  int frames = 0;
  // Seconds of processor that a frame's own work takes: without waiting, events and GL.
  double longest_own = 0, sum_own = 0;
  double longest_lock_wait = 0;  // seconds in which a frame waited for what workers hold
};

// What a test looks at between frames.
struct LoopHooks {
  std::function<void()> before_swap, after_frame;
  bool always_draw = false;  // else only what events and workers ask for
};

// Until the window is closed and the worker has stopped.
LoopTimes run(ui::Window& window, Program& program, const LoopHooks& hooks = {});

}  // namespace sagelab::gui
