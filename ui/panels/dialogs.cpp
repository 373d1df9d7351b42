// SPDX-License-Identifier: Apache-2.0
#include "ui/panels/dialogs.h"

#include <fmt/format.h>
#include <imgui.h>

#include <algorithm>

#include "ui/look/icons.h"
#include "ui/look/theme.h"

namespace sagelab::ui {
namespace {

void draw_close_question(Actions& actions) {
  if (ImGui::Button("Close anyway", {px(150), 0})) {
    actions.push(action::CloseAnyway{});
    ImGui::CloseCurrentPopup();
  }
  ImGui::SameLine();
  if (ImGui::Button("Keep open", {px(150), 0}) || ImGui::IsKeyPressed(ImGuiKey_Escape)) {
    actions.push(action::KeepOpen{});
    ImGui::CloseCurrentPopup();
  }
}

void draw_answer(const Dialog& dialog, Actions& actions) {
  if (ImGui::Button("Copy", {px(90), 0}))
    ImGui::SetClipboardText((dialog.what + (dialog.hint.empty() ? "" : "\n" + dialog.hint)).c_str());
  ImGui::SameLine();
  if (ImGui::IsWindowAppearing()) ImGui::SetKeyboardFocusHere();
  if (ImGui::Button("OK", {px(90), 0}) || ImGui::IsKeyPressed(ImGuiKey_Escape)) {
    actions.push(action::DismissDialog{});
    ImGui::CloseCurrentPopup();
  }
}

}  // namespace

void draw_dialogs(const State& state, Actions& actions) {
  if (state.dialogs.empty()) return;
  const auto& dialog = state.dialogs.front();
  const auto title = dialog.title + "###dialog";
  if (!ImGui::IsPopupOpen(title.c_str())) ImGui::OpenPopup(title.c_str());
  const auto* viewport = ImGui::GetMainViewport();
  ImGui::SetNextWindowPos(viewport->GetCenter(), ImGuiCond_Always, {.5f, .5f});
  ImGui::SetNextWindowSize({std::min(px(480), viewport->WorkSize.x - px(40)), 0});
  constexpr auto kFlags = ImGuiWindowFlags_AlwaysAutoResize | ImGuiWindowFlags_NoDocking;
  if (!ImGui::BeginPopupModal(title.c_str(), nullptr, kFlags)) return;
  const bool error = dialog.kind == Dialog::Kind::Error;
  ImGui::PushStyleColor(ImGuiCol_Text, error ? palette().bad : palette().accent);
  ImGui::TextUnformatted(error ? icon::kWarning : icon::kInfo);
  ImGui::PopStyleColor();
  ImGui::SameLine();
  ImGui::TextWrapped("%s", dialog.what.c_str());
  if (!dialog.hint.empty()) {
    ImGui::Spacing();
    ImGui::PushStyleColor(ImGuiCol_Text, palette().muted);
    ImGui::TextWrapped("%s", dialog.hint.c_str());
    ImGui::PopStyleColor();
  }
  ImGui::Spacing();
  dialog.kind == Dialog::Kind::CloseWhileBusy ? draw_close_question(actions) : draw_answer(dialog, actions);
  ImGui::EndPopup();
}

}  // namespace sagelab::ui
