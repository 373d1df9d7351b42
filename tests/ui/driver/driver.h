// SPDX-License-Identifier: Apache-2.0
// The real window with the bundled model, driven by Dear ImGui Test Engine. Scenes run in a thread of the
// engine's own while the window's thread waits, so that they may look at the program.
#pragma once

#include <imgui.h>
#include <imgui_internal.h>
#include <imgui_te_context.h>
#include <imgui_te_engine.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "app/gui/loop.h"

namespace sagelab::gui {

// A whole window, RGB8 top row first.
struct Seen {
  std::vector<unsigned char> pixels;
  int width = 0, height = 0;
};

struct Driver {
  ui::Window& window;
  Program& program;
  std::filesystem::path out;  // where screenshots and exports go
  std::string shot;           // the screenshot to take of the next frame; empty: none
  Seen seen;                  // the latest one taken
  std::vector<unsigned> gl_errors;
  ImGuiTestEngine* engine = nullptr;
  FrameTimes times = {};                   // of frames since a scene last emptied it
  double first_shown = 0;                  // seconds from the start of the process
  std::vector<std::string> too_slow = {};  // what took longer than a frame may
  std::atomic<bool> awake = true;          // draws all the time; else only when the window itself would

  ui::State& state() const { return program.state(); }
};

// The driver of a running scene.
Driver& driver_of(ImGuiTestContext* context);
// Frames go by until something holds; false after so many seconds.
bool until(ImGuiTestContext* context, const std::function<bool()>& holds, double seconds = 120);
// A PNG of the whole window, as it is drawn.
void take_shot(ImGuiTestContext* context, const std::string& name);

void add_scenes(Driver& driver);
void add_soak(Driver& driver);    // 200 short runs with switches at every step
void add_timing(Driver& driver);  // what frames take, idle and at work

}  // namespace sagelab::gui
