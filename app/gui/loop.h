// SPDX-License-Identifier: Apache-2.0
// The window's own loop over a Program.
#pragma once

#include <functional>
#include <string>

#include "app/gui/frame_times.h"
#include "app/gui/program.h"
#include "ui/platform/window.h"

namespace sagelab::gui {

// Of the window's thread over its life.
struct LoopTimes {
  FrameTimes frames;
  double first_shown = 0;        // seconds from the start of the process
  double longest_lock_wait = 0;  // seconds in which a frame waited for what workers hold
  std::string text() const;      // for a person
};

// What a test looks at between frames.
struct LoopHooks {
  std::function<void()> before_swap;
  std::function<void(const FrameTime&)> after_frame;
  std::function<bool()> always_draws = [] { return false; };  // else only what events and workers ask for
};

// Until the window is closed and the worker has stopped.
LoopTimes run(ui::Window& window, Program& program, const LoopHooks& hooks = {});

}  // namespace sagelab::gui
