// SPDX-License-Identifier: Apache-2.0
// The canvas without a window: frames are made and thrown away, mouse and keys are said to be somewhere.
#pragma once

#include <gtest/gtest.h>
#include <imgui_impl_null.h>
#include <implot.h>

#include "tests/ui/compare/states.h"
#include "ui/compare/canvas.h"
#include "ui/look/theme.h"

namespace sagelab::ui {

class FakeTextures : public Textures {
 public:
  ImTextureID of(const std::shared_ptr<const Picture>& picture, int frame) override {
    asked.emplace_back(picture, frame);
    return ImTextureID(1);
  }
  std::vector<std::pair<std::shared_ptr<const Picture>, int>> asked;  // in the last frame
};

class CanvasTest : public testing::Test {
 protected:
  void SetUp() override {
    ImGui::CreateContext();
    ImPlot::CreateContext();
    ImGui::GetIO().IniFilename = nullptr;
    ImGui_ImplNull_Init();
    apply_theme(true, 1);
    first = frame();
    frame();
  }
  void TearDown() override {
    ImGui_ImplNull_Shutdown();
    ImPlot::DestroyContext();
    ImGui::DestroyContext();
  }
  std::vector<Action> frame() {
    ImGui_ImplNull_NewFrame();
    ImGui::NewFrame();
    ImGui::SetNextWindowPos({0, 0});
    ImGui::SetNextWindowSize(size);
    ImGui::Begin("Compare", nullptr, ImGuiWindowFlags_NoSavedSettings | ImGuiWindowFlags_NoScrollWithMouse);
    Actions actions;
    textures.asked.clear();
    canvas.draw(state, actions, textures);
    ImGui::End();
    if (!focused) ImGui::SetWindowFocus(nullptr);
    ImGui::Render();
    return actions.take();
  }
  Point middle() const { return canvas.area().middle(); }
  void move(Point to) {
    ImGui::GetIO().AddMousePosEvent(float(to.x), float(to.y));
    frame(), frame();
  }
  std::vector<Action> press(ImGuiKey key, ImGuiKey modifier = ImGuiKey_None) {
    auto& io = ImGui::GetIO();
    if (modifier != ImGuiKey_None) io.AddKeyEvent(modifier, true);
    io.AddKeyEvent(key, true);
    auto actions = frame();
    io.AddKeyEvent(key, false);
    if (modifier != ImGuiKey_None) io.AddKeyEvent(modifier, false);
    frame(), frame();
    return actions;
  }
  void drag(Point from, Point to) {
    auto& io = ImGui::GetIO();
    move(from);
    io.AddMouseButtonEvent(0, true);
    frame(), frame();
    move(to);
    io.AddMouseButtonEvent(0, false);
    frame(), frame();
  }

  std::vector<Action> first;  // of the first frame
  State state = two_results();
  Canvas canvas;
  FakeTextures textures;
  ImVec2 size{800, 600};
  bool focused = true;
};

}  // namespace sagelab::ui
