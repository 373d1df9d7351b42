// SPDX-License-Identifier: Apache-2.0
#include "ui/metrics/error_map.h"

#include <fmt/format.h>
#include <implot.h>

#include <algorithm>
#include <cmath>

#include "ui/look/theme.h"

namespace sagelab::ui {
namespace {

constexpr float kLeastCell = 5, kMostCell = 16, kMostHeight = 260;

ImU32 colour_of_heat(double heat) {
  // What is not a number has to be seen.
  if (std::isnan(heat)) return IM_COL32(255, 0, 255, 255);
  return ImGui::GetColorU32(ImPlot::SampleColormap(float(.08 + .92 * heat), ImPlotColormap_Plasma));
}

}  // namespace

void ErrorMap::draw(const State& state, const Job& job, Actions& actions) {
  from_ = extent_ = {};
  if (job.measured.empty()) {
    note("Tick \"measure errors against sdpa\" in Attention: each layer's error shows here, step by step.");
    return;
  }
  if (job_ != job.id || measured_ != job.measured.size() || map_.kind != kind_) {
    map_ = heat_map(job.measured, kind_, job.steps);
    job_ = job.id, measured_ = job.measured.size();
  }
  draw_kinds();
  draw_cells();
  draw_scale();
  draw_menu(state, actions);
}

void ErrorMap::draw_kinds() {
  ImGui::SetNextItemWidth(px(130));
  if (!ImGui::BeginCombo("##error-kind", name_of(kind_))) return;
  for (const auto kind : {ErrorKind::RelativeL1, ErrorKind::Cosine, ErrorKind::Rmse, ErrorKind::MaxAbs})
    if (ImGui::Selectable(name_of(kind), kind == kind_)) kind_ = kind;
  ImGui::EndCombo();
}

void ErrorMap::draw_cells() {
  if (map_.cells.empty()) return;
  const float width = std::max(ImGui::GetContentRegionAvail().x, 1.f);
  const float cell = std::clamp(px(kMostHeight) / float(map_.layers), px(kLeastCell), px(kMostCell));
  from_ = ImGui::GetCursorScreenPos(), extent_ = {width, cell * float(map_.layers)};
  ImGui::InvisibleButton("##error-map", extent_);
  auto* list = ImGui::GetWindowDrawList();
  const float step_width = width / float(map_.steps), gap = cell > px(8) ? 1.f : 0.f;
  for (int step = 0; step < map_.steps; ++step) {
    for (int layer = 0; layer < map_.layers; ++layer) {
      const auto& at = map_.at(step, layer);
      if (at.calls == 0) continue;
      const ImVec2 corner{from_.x + float(step) * step_width, from_.y + float(layer) * cell};
      list->AddRectFilled(corner, {corner.x + step_width - gap, corner.y + cell - gap},
                          colour_of_heat(heat_of(error_of(at.worst, map_.kind), map_)));
    }
  }
  if (!ImGui::IsItemHovered()) return;
  const ImVec2 mouse = ImGui::GetIO().MousePos;
  const auto place = place_at(map_, mouse.x - from_.x, mouse.y - from_.y, extent_.x, extent_.y);
  if (place.step < 0) return;
  const float y = from_.y + float(place.layer) * cell;
  list->AddRect({from_.x, y}, {from_.x + width, y + cell}, palette().text);
  ImGui::SetTooltip("%s\n\nClick: another backend for layer %d", text_of(map_, place).c_str(), place.layer);
  if (!ImGui::IsMouseReleased(0)) return;
  clicked_ = place;
  ImGui::OpenPopup("layer-backend");
}

void ErrorMap::draw_scale() {
  if (!(map_.most > 0)) {
    note("All equal.");
    return;
  }
  note(fmt::format("steps right, layers down; {:.2g} dark to {:.2g} bright, by powers", map_.least, map_.most)
           .c_str());
}

void ErrorMap::draw_menu(const State& state, Actions& actions) {
  if (!ImGui::BeginPopup("layer-backend")) return;
  ImGui::TextDisabled("layer %d on", clicked_.layer);
  for (const auto& backend : state.backends) {
    ImGui::BeginDisabled(!backend.reason.empty());
    ImGui::PushStyleColor(ImGuiCol_Text, colour_of(backend.spec));
    const bool chosen = ImGui::MenuItem(backend.spec.c_str());
    ImGui::PopStyleColor();
    ImGui::EndDisabled();
    tip(backend.reason);
    if (!chosen) continue;
    const auto* job = state.job(job_);
    const int steps = std::max(job ? job->steps : 0, map_.steps);
    const int layers = std::max(state.policy.layers, map_.layers);
    auto change = put_layer_on(state, steps, layers, {clicked_.layer, backend.spec});
    if (!change.policy.cells.empty()) actions.push(action::SetPolicy{std::move(change.policy)});
    actions.push(action::SetAttention{std::move(change.spec)});
  }
  ImGui::EndPopup();
}

}  // namespace sagelab::ui
