// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/transport.h"

#include <fmt/format.h>
#include <imgui.h>

#include <algorithm>
#include <cmath>

#include "ui/compare/maths/layout.h"
#include "ui/compare/maths/strip.h"
#include "ui/look/icons.h"
#include "ui/look/theme.h"

namespace sagelab::ui {
namespace {

constexpr float kTrack = 14, kRow = 34, kSpeed = 66;
constexpr double kPsnrMargin = 1, kSsimMargin = .002;

float at_part(const Box& box, double part) {
  return float(box.x0 + part * box.width());
}

void draw_bars(const Box& box, const StripRow& row) {
  auto* list = ImGui::GetWindowDrawList();
  list->AddRectFilled({float(box.x0), float(box.y0)}, {float(box.x1), float(box.y1)}, palette().canvas,
                      px(2));
  const auto& quality = *row.quality;
  const auto range = range_of(quality.psnr, kPsnrMargin);
  const double n = double(quality.psnr.size());
  const auto colour = ImGui::GetColorU32(ImGuiCol_PlotHistogram, .75f);
  for (size_t i = 0; i < quality.psnr.size(); ++i) {
    const double height = height_of(quality.psnr[i], range) * (box.height() - px(2));
    const float x0 = at_part(box, double(i) / n), x1 = at_part(box, double(i + 1) / n);
    const bool equal = std::isinf(quality.psnr[i]);
    list->AddRectFilled({x0, float(box.y1 - height)},
                        {std::max(x0 + 1, x1 - (x1 - x0 > px(4) ? 1 : 0)), float(box.y1)},
                        equal ? (palette().good & ~IM_COL32_A_MASK) | IM_COL32(0, 0, 0, 120) : colour);
  }
  const auto similar = range_of(quality.ssim, kSsimMargin);
  std::vector<ImVec2> line;
  for (size_t i = 0; i < quality.ssim.size(); ++i)
    line.push_back({at_part(box, (double(i) + .5) / n),
                    float(box.y1 - height_of(quality.ssim[i], similar) * (box.height() - px(2)) - px(1))});
  if (line.size() > 1) list->AddPolyline(line.data(), int(line.size()), palette().warning, 0, px(1.5f));
}

void draw_row(const Box& box, const StripRow& row) {
  draw_bars(box, row);
  auto* list = ImGui::GetWindowDrawList();
  const auto text = row_text(row, -1);
  const float size = ImGui::GetFontSize() * .85f;
  const ImVec2 at{float(box.x0) + px(5), float(box.y0) + px(2)};
  const ImVec2 extent = ImGui::GetFont()->CalcTextSizeA(size, FLT_MAX, 0, text.c_str());
  list->AddRectFilled({at.x - px(2), at.y}, {at.x + extent.x + px(2), at.y + extent.y},
                      IM_COL32(0, 0, 0, 150), px(2));
  list->AddText(nullptr, size, at, IM_COL32_WHITE, text.c_str());
}

void draw_track(const Box& box, const Clock& clock) {
  auto* list = ImGui::GetWindowDrawList();
  const float y = float(box.middle().y);
  list->AddRectFilled({float(box.x0), y - px(2)}, {float(box.x1), y + px(2)},
                      ImGui::GetColorU32(ImGuiCol_FrameBgActive), px(2));
  const int n = clock.frames();
  if (n > 1 && box.width() / n > px(5))
    for (int i = 1; i < n; ++i)
      list->AddLine({at_part(box, double(i) / n), y - px(3)}, {at_part(box, double(i) / n), y + px(3)},
                    palette().faint);
}

void draw_cursor(const Box& box, const Clock& clock) {
  if (clock.frames() < 1) return;
  auto* list = ImGui::GetWindowDrawList();
  const double n = clock.frames();
  const float x0 = at_part(box, clock.frame() / n), x1 = at_part(box, (clock.frame() + 1) / n);
  list->AddRectFilled({x0, float(box.y0)}, {x1, float(box.y1)}, IM_COL32(255, 255, 255, 28));
  const float x = (x0 + x1) / 2;
  list->AddLine({x, float(box.y0)}, {x, float(box.y1)}, palette().accent, px(2));
  list->AddCircleFilled({x, float(box.y0) + px(kTrack / 2)}, px(6), palette().accent);
}

// A single picture: it has no time to move in.
bool is_still(const Clock& clock) {
  return clock.frames() == 1;
}

float track_height(const Clock& clock) {
  return is_still(clock) ? 0 : px(kTrack);
}

void draw_scrubber(const Transport& t, const std::vector<StripRow>& rows) {
  const ImVec2 at = ImGui::GetCursorScreenPos();
  const float width = std::max(ImGui::GetContentRegionAvail().x, 1.f);
  const float track = track_height(t.clock), height = track + float(rows.size()) * px(kRow);
  if (height <= 0) return;
  ImGui::InvisibleButton("##scrub", {width, height});
  const Box box{at.x, at.y, at.x + width, at.y + height};
  const float mouse = ImGui::GetIO().MousePos.x;
  if (ImGui::IsItemActive()) t.clock.seek_frame(part_at(mouse, box.x0, box.x1, t.clock.frames()));
  if (!is_still(t.clock)) draw_track({box.x0, box.y0, box.x1, box.y0 + track}, t.clock);
  for (size_t i = 0; i < rows.size(); ++i) {
    const double y = box.y0 + track + double(i) * px(kRow);
    draw_row({box.x0, y, box.x1, y + px(kRow) - px(2)}, rows[i]);
  }
  if (!is_still(t.clock)) draw_cursor(box, t.clock);
  if (!ImGui::IsItemHovered() || !ImGui::BeginTooltip()) return;
  const int frame = part_at(mouse, box.x0, box.x1, t.clock.frames());
  ImGui::Text("frame %d, %.2f s", frame + 1, time_of(t.clock.clip(), frame));
  for (const auto& row : rows) ImGui::TextUnformatted(row_text(row, frame).c_str());
  ImGui::EndTooltip();
}

// A part of the row below; it leaves the line open.
struct Control {
  double width;
  std::function<void()> draw;
};

float control_gap() {
  return ImGui::GetStyle().ItemInnerSpacing.x / 2;
}

void add_buttons(const Transport& t, std::vector<Control>& all) {
  const bool moves = t.clock.frames() > 1;
  const auto add = [&](const char* icon, const char* id, Command command, ImU32 colour) {
    all.push_back({ImGui::GetFrameHeight() * 1.1, [=, &t] {
                     ImGui::PushStyleColor(ImGuiCol_Text, colour);
                     const bool pressed = icon_button(icon, id, help_of(command), moves);
                     ImGui::PopStyleColor();
                     if (pressed) t.apply(command);
                   }});
  };
  add(icon::kStepBack, "back", Command::StepBack, palette().text);
  add(t.clock.playing() ? icon::kPause : icon::kPlay, "play", Command::Play, palette().text);
  add(icon::kStep, "step", Command::Step, palette().text);
  add(icon::kLoop, "loop", Command::Loop, t.clock.loops() ? palette().accent : palette().muted);
}

void draw_speed(Clock& clock) {
  ImGui::SetNextItemWidth(px(kSpeed));
  if (ImGui::BeginCombo("##speed", fmt::format("{:g}x", clock.speed()).c_str())) {
    for (int notch = -3; notch <= 3; ++notch) {
      const double speed = std::exp2(notch);
      if (ImGui::Selectable(fmt::format("{:g}x", speed).c_str(), speed == clock.speed()))
        clock.faster(notch - int(std::lround(std::log2(clock.speed()))));
    }
    ImGui::EndCombo();
  }
  ImGui::SameLine(0, control_gap());
}

// As wide as `widest`, so that what follows stands still.
void add_text(std::vector<Control>& all, const std::string& text, const std::string& widest, ImU32 colour) {
  const float width = ImGui::CalcTextSize(widest.c_str()).x + ImGui::GetStyle().ItemSpacing.x;
  all.push_back({width, [=] {
                   const float x = ImGui::GetCursorPosX();
                   ImGui::AlignTextToFramePadding();
                   ImGui::PushStyleColor(ImGuiCol_Text, colour);
                   ImGui::TextUnformatted(text.c_str());
                   ImGui::PopStyleColor();
                   ImGui::SameLine(x + width, control_gap());
                 }});
}

std::vector<Control> controls_of(const Transport& t) {
  const auto& clock = t.clock;
  const int frames = std::max(clock.frames(), 1);
  const auto time = [](double seconds) { return fmt::format("{:.2f} s", seconds); };
  std::vector<Control> all;
  if (is_still(clock)) return all;
  add_buttons(t, all);
  all.push_back({px(kSpeed), [&t] { draw_speed(t.clock); }});
  add_text(all, fmt::format("{} / {}", clock.frame() + 1, frames), fmt::format("{0} / {0}", frames),
           palette().text);
  add_text(all, time(time_of(clock.clip(), clock.frame())), time(clock.length()), palette().muted);
  return all;
}

double room_for_controls() {
  return std::max(ImGui::GetContentRegionAvail().x, 1.f);
}

std::vector<int> lines_of(const std::vector<Control>& controls) {
  std::vector<double> widths;
  for (const auto& control : controls) widths.push_back(control.width);
  return folded(widths, control_gap(), room_for_controls());
}

// Beside the last control, or, where the widest there can be has no room, at the cursor.
void draw_readout(const Transport& t) {
  if (t.readout.empty()) return;
  const auto widest = widest_readout(t.clips);
  if (ImGui::GetContentRegionAvail().x < ImGui::CalcTextSize(widest.c_str()).x)
    ImGui::SetTooltip("%s", t.readout.c_str());
  else
    ImGui::TextUnformatted(t.readout.c_str());
}

void draw_controls(const Transport& t) {
  const auto controls = controls_of(t);
  const auto lines = lines_of(controls);
  for (size_t i = 0; i < controls.size(); ++i) {
    if (i > 0 && lines[i] > lines[i - 1]) ImGui::NewLine();
    controls[i].draw();
  }
  draw_readout(t);
  ImGui::NewLine();
}

std::string figures(const PairQuality& quality, int frame) {
  if (!quality.problem.empty()) return quality.problem;
  if (quality.pending) return "being measured";
  const auto of = [&](const std::vector<double>& values) {
    if (frame < 0) return mean_of(values);
    return size_t(frame) < values.size() ? values[size_t(frame)] : double(NAN);
  };
  return fmt::format("PSNR {}, SSIM {}", psnr_text(of(quality.psnr)), ssim_text(of(quality.ssim)));
}

}  // namespace

std::vector<StripRow> strip_rows(const State& state, const std::vector<Clip>& clips) {
  std::vector<StripRow> rows;
  for (size_t i = 1; i < clips.size(); ++i) {
    const auto* quality = state.quality(clips[i].id, clips[0].id);
    if (quality) rows.push_back({clips[i].letter, clips[0].letter, quality, state.floor(clips[0].id)});
  }
  return rows;
}

std::string row_text(const StripRow& row, int frame) {
  auto text = fmt::format("{} to {}: {}", row.letter, row.first, figures(*row.quality, frame));
  if (row.floor) text += fmt::format("; {} again: {}", row.first, figures(*row.floor, frame));
  return text;
}

float transport_height(const Transport& t) {
  const auto& style = ImGui::GetStyle();
  const auto rows = strip_rows(t.state, t.clips).size();
  const auto folded_to = lines_of(controls_of(t));
  const int lines = folded_to.empty() ? 1 : folded_to.back() + 1;
  return track_height(t.clock) + float(rows) * px(kRow) + style.ItemSpacing.y +
         float(lines) * (ImGui::GetFrameHeight() + style.ItemSpacing.y);
}

void draw_transport(const Transport& transport) {
  draw_scrubber(transport, strip_rows(transport.state, transport.clips));
  draw_controls(transport);
}

}  // namespace sagelab::ui
