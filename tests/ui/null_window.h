// SPDX-License-Identifier: Apache-2.0
// Dear ImGui without a window: frames are made and thrown away, the mouse and keys are said to be somewhere.
#pragma once

#include <imgui.h>
#include <imgui_impl_null.h>
#include <implot.h>

#include <functional>
#include <utility>

#include "ui/look/theme.h"

namespace sagelab::ui {

class NullWindow {
 public:
  // draw: all that a frame holds.
  explicit NullWindow(std::function<void()> draw) : draw_(std::move(draw)) {
    ImGui::CreateContext();
    ImPlot::CreateContext();
    ImGui::GetIO().IniFilename = nullptr;
    ImGui_ImplNull_Init();
    apply_theme(true, 1);
  }
  ~NullWindow() {
    ImGui_ImplNull_Shutdown();
    ImPlot::DestroyContext();
    ImGui::DestroyContext();
  }
  NullWindow(const NullWindow&) = delete;
  NullWindow& operator=(const NullWindow&) = delete;

  void frame() {
    ImGui_ImplNull_NewFrame();
    ImGui::NewFrame();
    draw_();
    ImGui::Render();
  }
  void click(float x, float y) {
    auto& io = ImGui::GetIO();
    io.AddMousePosEvent(x, y);
    frame(), frame();
    io.AddMouseButtonEvent(0, true);
    frame();
    io.AddMouseButtonEvent(0, false);
    frame(), frame();
  }
  void press(ImGuiKey key) {
    ImGui::GetIO().AddKeyEvent(key, true);
    frame();
    ImGui::GetIO().AddKeyEvent(key, false);
    frame();
  }
  // Any of its vertices, for what has to be drawn at all.
  int drawn() const { return ImGui::GetDrawData()->TotalVtxCount; }

 private:
  std::function<void()> draw_;
};

}  // namespace sagelab::ui
