// SPDX-License-Identifier: Apache-2.0
// What comes from the system between two frames.
#pragma once

#include <imgui.h>
#include <imgui_internal.h>

namespace sagelab::ui {

// Of events that came together, the first that Dear ImGui is to take a frame later than those before it:
// a modifier's release after a key's press, else it sees no chord; a click after a move, else it clicks where
// nothing was hovered yet, which tabs ignore. As many as there are, where there is none.
int first_for_later(const ImVector<ImGuiInputEvent>& events);

}  // namespace sagelab::ui
