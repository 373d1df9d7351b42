// SPDX-License-Identifier: Apache-2.0
#include "ui/metrics/timings.h"

#include <fmt/format.h>
#include <imgui.h>
#include <implot.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "ui/compare/maths/strip.h"
#include "ui/look/theme.h"
#include "ui/metrics/figures.h"

namespace sagelab::ui {
namespace {

constexpr float kLegend = 110, kTag = 90;  // of names in plots
constexpr auto kPlot =
    ImPlotFlags_NoMenus | ImPlotFlags_NoBoxSelect | ImPlotFlags_NoMouseText | ImPlotFlags_NoTitle;
constexpr ImU32 kPhases[] = {IM_COL32(126, 108, 178, 255), IM_COL32(196, 140, 62, 255),
                             IM_COL32(64, 140, 190, 255), IM_COL32(92, 160, 92, 255),
                             IM_COL32(130, 136, 144, 255)};

ImVec4 colour(ImU32 packed) {
  return ImGui::ColorConvertU32ToFloat4(packed);
}

ImU32 colour_of_phase(const std::string& name) {
  constexpr const char* kNames[] = {"load", "encode", "denoise", "decode"};
  const auto at = std::find(std::begin(kNames), std::end(kNames), name);
  return kPhases[at - std::begin(kNames)];
}

// Runs of steps by one backend; each begins at the last point of the one before, so that the line is whole.
void plot_job(const std::string& name, const Job& job) {
  std::vector<double> x, y;
  for (size_t i = 0; i < job.step_times.size(); ++i)
    x.push_back(double(i + 1)), y.push_back(job.step_times[i].seconds);
  for (size_t from = 0; from < x.size();) {
    const auto backend = last_backend(job.step_times[from].backend);
    size_t to = from + 1;
    while (to < x.size() && last_backend(job.step_times[to].backend) == backend) ++to;
    const size_t begin = from > 0 ? from - 1 : 0;
    ImPlotSpec look;
    look.LineColor = look.MarkerFillColor = look.MarkerLineColor = colour(colour_of(backend));
    look.LineWeight = px(1.5f);
    look.Marker = ImPlotMarker_Circle;
    look.MarkerSize = px(2.5f);
    const auto label = fmt::format("{} {}##{}-{}", name, shortened(backend, px(kLegend)), job.id, backend);
    ImPlot::PlotLine(label.c_str(), x.data() + begin, y.data() + begin, int(to - begin), look);
    from = to;
  }
  for (const auto& mark : job.switches) {
    const double at = mark.step + .5;
    ImPlotSpec look;
    look.LineColor = colour(palette().marker);
    look.LineWeight = px(1.5f);
    ImPlot::PlotInfLines("##switch", &at, 1, look);
    ImPlot::TagX(at, colour(palette().marker), "%s", shortened(mark.to, px(kTag)).c_str());
  }
}

void cell(const std::string& text) {
  ImGui::TableNextColumn();
  ImGui::TextUnformatted(text.c_str());
}

void draw_bar(const std::vector<PhaseSum>& sums, double most, float width) {
  auto* list = ImGui::GetWindowDrawList();
  const ImVec2 at = ImGui::GetCursorScreenPos();
  const float height = ImGui::GetTextLineHeight();
  ImGui::InvisibleButton("bar", {std::max(width, 1.f), height});
  const float mouse = ImGui::GetIO().MousePos.x;
  float x = at.x;
  for (const auto& sum : sums) {
    const float to = x + float(sum.seconds / most) * width;
    list->AddRectFilled({x, at.y}, {to, at.y + height}, colour_of_phase(sum.name));
    const float text = ImGui::CalcTextSize(sum.name.c_str()).x;
    if (to - x > text + px(6)) list->AddText({x + px(3), at.y}, IM_COL32_WHITE, sum.name.c_str());
    if (ImGui::IsItemHovered() && mouse >= x && mouse < to)
      ImGui::SetTooltip("%s: %.2f s%s", sum.name.c_str(), sum.seconds, sum.goes_on ? " so far" : "");
    x = to;
  }
}

}  // namespace

void draw_steps(const State& state, const std::vector<const Job*>& jobs, float height) {
  double most = 0;
  int steps = 1;
  for (const auto* job : jobs) {
    steps = std::max({steps, job->steps, int(job->step_times.size())});
    for (const auto& step : job->step_times) most = std::max(most, step.seconds);
  }
  if (!ImPlot::BeginPlot("##step-seconds", {-1, height}, kPlot)) return;
  ImPlot::SetupAxes(nullptr, nullptr, ImPlotAxisFlags_NoHighlight, ImPlotAxisFlags_NoHighlight);
  setup_steps(steps);
  ImPlot::SetupAxisLimits(ImAxis_Y1, 0, most > 0 ? most * 1.15 : 1, ImPlotCond_Always);
  ImPlot::SetupLegend(ImPlotLocation_North, ImPlotLegendFlags_Outside | ImPlotLegendFlags_Horizontal);
  for (const auto* job : jobs) plot_job(short_name(state, job->id), *job);
  ImPlot::EndPlot();
}

void draw_backend_times(const std::vector<const Job*>& jobs) {
  const auto times = backend_times(jobs);
  if (times.empty() ||
      !ImGui::BeginTable("backends", 4, ImGuiTableFlags_SizingStretchSame | ImGuiTableFlags_RowBg))
    return;
  constexpr std::pair<const char*, float> kColumns[] = {
      {"backend", 2.4f}, {"steps", .8f}, {"median", 1.1f}, {"range", 1.9f}};
  for (const auto& [title, width] : kColumns)
    ImGui::TableSetupColumn(title, ImGuiTableColumnFlags_WidthStretch, width);
  ImGui::TableHeadersRow();
  for (const auto& time : times) {
    ImGui::TableNextColumn();
    line(time.backend + (time.emulated ? " (emulated)" : ""), colour_of(time.backend));
    if (time.emulated) tip("The kernel's arithmetic on the CPU: its quality is the GPU's, its clock is not.");
    cell(fmt::to_string(time.steps));
    cell(step_text(time.median));
    ImGui::TableNextColumn();
    auto least = step_text(time.fastest);
    const auto most = step_text(time.slowest);
    const auto unit = [](const std::string& text) { return text.substr(text.find(' ')); };
    if (unit(least) == unit(most)) least.resize(least.find(' '));
    line(fmt::format("{} - {}", least, most), palette().text);
  }
  ImGui::EndTable();
}

void draw_phases(const State& state, const std::vector<const Job*>& jobs) {
  double most = 0;
  for (const auto* job : jobs) {
    double all = 0;
    for (const auto& sum : phase_sums(*job, state.now)) all += sum.seconds;
    most = std::max(most, all);
  }
  if (!(most > 0)) {
    note("Nothing was timed yet.");
    return;
  }
  for (const auto* job : jobs) {
    const auto sums = phase_sums(*job, state.now);
    double all = 0;
    for (const auto& sum : sums) all += sum.seconds;
    ImGui::PushID(int(job->id));
    ImGui::TextUnformatted(short_name(state, job->id).c_str());
    ImGui::SameLine(px(34));
    draw_bar(sums, most, ImGui::GetContentRegionAvail().x - px(60));
    ImGui::SameLine();
    ImGui::TextDisabled("%.1f s", all);
    ImGui::PopID();
  }
}

void draw_memory(const std::vector<MemorySample>& memory, float height) {
  if (memory.size() < 2) {
    note("Sampled while the program runs.");
    return;
  }
  constexpr double kGiga = 1e9;
  std::vector<double> at, resident, device;
  double most = 0;
  bool on_device = false;
  for (const auto& sample : memory) {
    at.push_back(sample.at);
    resident.push_back(double(sample.resident) / kGiga);
    device.push_back(double(sample.device) / kGiga);
    most = std::max({most, resident.back(), device.back()});
    on_device = on_device || sample.device > 0;
  }
  if (!ImPlot::BeginPlot("##memory", {-1, height}, kPlot)) return;
  ImPlot::SetupAxes("s", "GB", ImPlotAxisFlags_NoHighlight, ImPlotAxisFlags_NoHighlight);
  ImPlot::SetupAxisLimits(ImAxis_X1, at.front(), std::max(at.back(), at.front() + 1), ImPlotCond_Always);
  ImPlot::SetupAxisLimits(ImAxis_Y1, 0, most > 0 ? most * 1.15 : 1, ImPlotCond_Always);
  ImPlot::SetupLegend(ImPlotLocation_SouthWest);
  ImPlotSpec look;
  look.LineWeight = px(1.5f);
  look.LineColor = colour(palette().accent);
  ImPlot::PlotLine("process", at.data(), resident.data(), int(at.size()), look);
  look.LineColor = colour(palette().warning);
  if (on_device) ImPlot::PlotLine("GPU", at.data(), device.data(), int(at.size()), look);
  ImPlot::EndPlot();
}

}  // namespace sagelab::ui
