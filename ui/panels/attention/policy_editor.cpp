// SPDX-License-Identifier: Apache-2.0
#include "ui/panels/attention/policy_editor.h"

#include <fmt/format.h>
#include <imgui.h>

#include <algorithm>

#include "ui/look/theme.h"
#include "ui/panels/attention/attention_panel.h"

namespace sagelab::ui {
namespace {

constexpr float kCell = 16;  // pixels at 96 dots per inch, where there is room
constexpr int kMostRanges = 12;

}  // namespace

void PolicyEditor::draw(const State& state, Actions& actions) {
  const auto& policy = state.policy;
  if (policy.cells.empty()) {
    note("The grid appears once the model's steps and layers are known.");
    return;
  }
  draw_brushes(state);
  draw_ranges(state, actions);
  draw_grid(state, actions);
  const auto spec = spec_of(policy);
  note(spec.c_str());
  if (ImGui::Button("Use this policy", {-1, 0})) actions.push(action::SetAttention{spec});
}

void PolicyEditor::draw_brushes(const State& state) {
  const auto usable = [](const BackendChoice& b) { return b.reason.empty(); };
  const bool there = std::any_of(state.backends.begin(), state.backends.end(),
                                 [&](const BackendChoice& b) { return usable(b) && b.spec == brush_; });
  if (!there) brush_ = "sage2";
  ImGui::PushStyleColor(ImGuiCol_Text, colour_of(brush_));
  ImGui::SetNextItemWidth(-1);
  const bool open = ImGui::BeginCombo("##brush", brush_.c_str());
  ImGui::PopStyleColor();
  tip("The brush: cells that you click or drag over get this backend; a layer's or a range's number paints "
      "all of it");
  if (!open) return;
  for (const auto& backend : state.backends) {
    if (!usable(backend)) continue;
    ImGui::PushStyleColor(ImGuiCol_Text, colour_of(backend.spec));
    if (ImGui::Selectable(backend.spec.c_str(), backend.spec == brush_)) brush_ = backend.spec;
    ImGui::PopStyleColor();
  }
  ImGui::EndCombo();
}

void PolicyEditor::draw_ranges(const State& state, Actions& actions) {
  const auto& policy = state.policy;
  int ranges = int(policy.columns.size());
  ImGui::SetNextItemWidth(px(110));
  if (ImGui::InputInt("ranges of steps", &ranges)) {
    ranges = std::clamp(ranges, 1, std::min(kMostRanges, policy.steps));
    Policy next = make_policy(policy.steps, policy.layers, ranges, brush_);
    for (size_t c = 0; c < next.columns.size(); ++c)
      next.cells[c] = policy.cells[column_of(policy, first_step(next, c))];
    actions.push(action::SetPolicy{std::move(next)});
  }
}

void PolicyEditor::draw_grid(const State& state, Actions& actions) {
  const auto& policy = state.policy;
  const float left = px(26), width = ImGui::GetContentRegionAvail().x - left;
  const float cell_w = width / float(policy.columns.size());
  const float cell_h = std::clamp(px(260) / float(policy.layers), px(5), px(kCell));
  const ImVec2 at = ImGui::GetCursorScreenPos();
  auto* list = ImGui::GetWindowDrawList();
  const float head = ImGui::GetTextLineHeight() + px(2);
  ImGui::InvisibleButton("grid", {left + width, head + cell_h * float(policy.layers)});
  const bool hovered = ImGui::IsItemHovered(), active = ImGui::IsItemActive();
  const ImVec2 mouse = ImGui::GetMousePos();
  const int column = int((mouse.x - at.x - left) / cell_w), layer = int((mouse.y - at.y - head) / cell_h);
  const bool in_columns = mouse.x >= at.x + left && column < int(policy.columns.size());
  const bool in_layers = mouse.y >= at.y + head && layer < policy.layers;

  for (size_t c = 0; c < policy.columns.size(); ++c) {
    const float x = at.x + left + cell_w * float(c);
    list->AddText({x + px(2), at.y}, palette().muted, std::to_string(first_step(policy, c)).c_str());
    for (int l = 0; l < policy.layers; ++l) {
      const float y = at.y + head + cell_h * float(l);
      list->AddRectFilled({x, y}, {x + cell_w - 1, y + cell_h - 1}, colour_of(policy.cells[c][l]));
    }
  }
  const int every = std::max(1, int(head / cell_h + .99f));
  for (int l = 0; l < policy.layers; l += every)
    list->AddText({at.x, at.y + head + cell_h * float(l) - px(1)}, palette().muted,
                  std::to_string(l).c_str());

  if (hovered && in_columns && in_layers)
    tip(fmt::format("layer {}, steps {} to {}: {}", layer, first_step(policy, column),
                    end_step(policy, column) - 1, policy.cells[column][layer]));
  if (!active || (!in_columns && !in_layers)) return;
  Policy next = policy;
  for (int c = 0; c < int(next.columns.size()); ++c)
    for (int l = 0; l < next.layers; ++l)
      if ((!in_columns || c == column) && (!in_layers || l == layer)) next.cells[c][l] = brush_;
  if (next.cells != policy.cells) actions.push(action::SetPolicy{std::move(next)});
}

}  // namespace sagelab::ui
