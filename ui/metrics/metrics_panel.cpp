// SPDX-License-Identifier: Apache-2.0
#include "ui/metrics/metrics_panel.h"

#include <fmt/format.h>
#include <imgui.h>

#include <algorithm>

#include "ui/look/theme.h"
#include "ui/metrics/timings.h"

namespace sagelab::ui {
namespace {

void draw_quality_row(const QualityRow& row) {
  const auto cell = [](const std::string& text) {
    ImGui::TableNextColumn();
    ImGui::TextUnformatted(text.c_str());
  };
  ImGui::TableNextRow();
  cell(row.pair);
  if (!row.problem.empty()) {
    ImGui::TableNextColumn();
    ImGui::TextDisabled("%s", row.problem.c_str());
    return;
  }
  cell(row.psnr);
  cell(row.ssim);
  cell(row.identical);
  if (!row.worst.empty()) tip("Lowest PSNR, " + row.worst);
}

}  // namespace

void MetricsPanel::draw(const State& state, Actions& actions) {
  const auto jobs = jobs_to_show(state);
  if (jobs.empty() && state.memory.size() < 2) {
    note("The first run shows its figures here.");
    return;
  }
  constexpr auto kOpen = ImGuiTreeNodeFlags_DefaultOpen;
  if (ImGui::CollapsingHeader("Quality", kOpen)) draw_quality(quality_table(state), actions);
  if (ImGui::CollapsingHeader("Seconds a step", kOpen) && !jobs.empty()) {
    draw_steps(state, jobs, px(130));
    draw_backend_times(jobs);
  }
  if (ImGui::CollapsingHeader("Phases", kOpen)) draw_phases(state, jobs);
  if (ImGui::CollapsingHeader("Errors by layer and step", kOpen)) draw_errors(state, jobs, actions);
  if (ImGui::CollapsingHeader("Memory", kOpen)) draw_memory(state.memory, px(110));
}

void MetricsPanel::draw_errors(const State& state, const std::vector<const Job*>& jobs, Actions& actions) {
  std::vector<const Job*> measured;
  for (const auto* job : jobs)
    if (!job->measured.empty()) measured.push_back(job);
  const auto at =
      std::find_if(measured.begin(), measured.end(), [&](const Job* job) { return job->id == chosen_; });
  const Job* shown = at != measured.end() ? *at : !measured.empty() ? measured.back() : nullptr;
  if (measured.size() > 1) {
    for (const auto* job : measured) {
      if (ImGui::RadioButton(fmt::format("{}##{}", short_name(state, job->id), job->id).c_str(),
                             job == shown))
        chosen_ = job->id;
      ImGui::SameLine();
    }
  }
  const Job none;
  errors_.draw(state, shown ? *shown : none, actions);
}

void draw_quality(const QualityTable& table, Actions& actions) {
  if (table.rows.empty() && table.floor.pair.empty()) {
    note("Two results in the canvas, A and B, are measured against each other.");
    return;
  }
  constexpr auto kTable = ImGuiTableFlags_SizingStretchProp | ImGuiTableFlags_RowBg;
  if (ImGui::BeginTable("quality", 4, kTable)) {
    for (const char* title : {"", "PSNR", "SSIM", "equal"}) ImGui::TableSetupColumn(title);
    ImGui::TableHeadersRow();
    for (const auto& row : table.rows) draw_quality_row(row);
    draw_quality_row(table.floor);
    ImGui::EndTable();
  }
  if (table.first != 0) {
    if (ImGui::Button("Make A-vs-A floor")) actions.push(action::Repeat{table.first});
    tip("The first result once more, from the same noise: what two equal runs differ by is the floor of all "
        "figures above.");
  }
}

}  // namespace sagelab::ui
