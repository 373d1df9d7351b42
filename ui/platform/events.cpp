// SPDX-License-Identifier: Apache-2.0
#include "ui/platform/events.h"

namespace sagelab::ui {
namespace {

bool is_modifier(ImGuiKey key) {
  return ImGui::IsLRModKey(key) || (key & ImGuiMod_Mask_);
}

}  // namespace

int first_for_later(const ImVector<ImGuiInputEvent>& events) {
  bool key_pressed = false, moved = false;
  for (int i = 0; i < events.Size; ++i) {
    const auto& event = events[i];
    if (event.Type == ImGuiInputEventType_MousePos) moved = true;
    if (event.Type == ImGuiInputEventType_MouseButton && event.MouseButton.Down && moved) return i;
    if (event.Type != ImGuiInputEventType_Key) continue;
    const bool modifier = is_modifier(event.Key.Key);
    if (event.Key.Down && !modifier) key_pressed = true;
    if (key_pressed && !event.Key.Down && modifier) return i;
  }
  return events.Size;
}

}  // namespace sagelab::ui
