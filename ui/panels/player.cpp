// SPDX-License-Identifier: Apache-2.0
#include "ui/panels/player.h"

#include <imgui.h>

#include <algorithm>
#include <cmath>

#include "ui/look/icons.h"
#include "ui/look/theme.h"

namespace sagelab::ui {

void Player::draw(const State& state, Textures& textures) {
  wait_ = -1;
  const Id id = state.compared[0];
  const auto* result = state.result(id);
  const auto* job = state.job(id);
  const auto picture = result ? result->frames.picture : job ? job->preview : nullptr;
  if (!picture || picture->frames < 1) {
    note("What you generate is shown here.");
    return;
  }
  const double fps = result ? result->frames.fps : 8;
  const int count = picture->frames;
  if (plays_ && count > 1) {
    const double at = std::max(0., (state.now - since_) * fps);
    frame_ = int(int64_t(at) % count);
    wait_ = (std::floor(at) + 1 - at) / fps;
  }
  frame_ = std::clamp(frame_, 0, count - 1);
  const ImVec2 room = ImGui::GetContentRegionAvail();
  const float foot = ImGui::GetFrameHeightWithSpacing();
  const float fit = std::min(room.x / float(picture->width), (room.y - foot) / float(picture->height));
  const float scale = fit >= 1 ? std::floor(fit) : fit;
  if (scale > 0) {
    const ImVec2 size{float(picture->width) * scale, float(picture->height) * scale};
    const ImVec2 at = ImGui::GetCursorPos();
    ImGui::SetCursorPos({at.x + (room.x - size.x) / 2, at.y + (room.y - foot - size.y) / 2});
    ImGui::Image(textures.of(picture, frame_), size);
    ImGui::SetCursorPos({at.x, at.y + room.y - foot + ImGui::GetStyle().ItemSpacing.y});
  }
  if (ImGui::Button(plays_ ? icon::kPause : icon::kPlay)) {
    plays_ = !plays_;
    since_ = state.now - frame_ / fps;
  }
  ImGui::SameLine();
  ImGui::SetNextItemWidth(-1);
  if (ImGui::SliderInt("##frame", &frame_, 0, count - 1)) plays_ = false;
}

}  // namespace sagelab::ui
