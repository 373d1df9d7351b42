// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/canvas.h"

#include <fmt/format.h>
#include <imgui.h>

#include <algorithm>
#include <cmath>

#include "ui/compare/maths/strip.h"
#include "ui/compare/overlay.h"
#include "ui/compare/transport.h"
#include "ui/look/icons.h"
#include "ui/look/theme.h"

namespace sagelab::ui {
namespace {

constexpr float kReach = 6, kGap = 4, kLeastHeight = 40;

std::string name_of_choice(const State& state, Id id) {
  if (const auto* result = state.result(id)) return fmt::format("#{} {}", id, result->title);
  const auto* job = state.job(id);
  return job ? fmt::format("#{} {} ({})", id, job->attention, name_of(job->status)) : "nothing";
}

}  // namespace

void Canvas::draw(const State& state, Actions& actions, Textures& textures) {
  clips_ = clips_of(state);
  arrangement_.count = int(clips_.size());
  clock_.set_clip(leading(clips_));
  const bool finished = std::any_of(clips_.begin(), clips_.end(), [&](const Clip& clip) {
    return !clip.making && std::count(unfinished_.begin(), unfinished_.end(), clip.id) > 0;
  });
  unfinished_ = unfinished_of(state);
  if (finished && clock_.rests()) clock_.play_once();
  clock_.tick(ImGui::GetTime());
  draw_toolbar(state, actions);
  const Transport transport{state, clips_, clock_, readout_, [&](Command c) { apply(c, state, actions); }};
  const ImVec2 room = ImGui::GetContentRegionAvail(), at = ImGui::GetCursorScreenPos();
  const float height = std::max(room.y - transport_height(transport), px(kLeastHeight));
  area_ = {at.x, at.y, at.x + std::max(room.x, 1.f), at.y + height};
  if (clips_.empty()) {
    differences_.clear();
    draw_empty(state, height);
  } else {
    draw_area(state, textures);
  }
  take_keys(state, actions);
  draw_transport(transport);
  if (help_) help_ = draw_help(area_);
  ask_for_figures(state, actions);
}

double Canvas::redraw_after() const {
  double after = -1;
  const auto change_in = [&](double seconds) {
    if (seconds >= 0 && (after < 0 || seconds < after)) after = seconds;
  };
  for (const auto& clip : clips_) change_in(clock_.until_change(clip.time));
  if (arrangement_.mode == Mode::Flicker && clips_.size() > 1)
    change_in(until_flicker(ImGui::GetTime(), arrangement_.flicker_hz));
  return after;
}

int Canvas::frame_of(Id result) const {
  for (const auto& clip : clips_)
    if (clip.id == result) return frame_at(clip.time, clock_.time());
  return 0;
}

void Canvas::draw_empty(const State& state, float height) {
  panes_.clear();
  readout_.clear();
  hovered_ = ImGui::IsWindowHovered(ImGuiHoveredFlags_ChildWindows);
  ImGui::BeginChild("##empty", {0, height});
  const auto missing = missing_of(state);
  if (missing.empty())
    note("What you generate is shown here. Choose two or three results above to compare them.");
  for (const auto& text : missing) ImGui::TextUnformatted(text.c_str());
  ImGui::EndChild();
}

void Canvas::draw_toolbar(const State& state, Actions& actions) {
  const float modes = px(260), gap = ImGui::GetStyle().ItemInnerSpacing.x;
  const float room = ImGui::GetContentRegionAvail().x;
  const bool one_line = room > modes + px(300);
  const float width = std::max(((one_line ? room - modes - gap : room) - 2 * gap) / 3, px(40));
  for (size_t place = 0; place < state.compared.size(); ++place) {
    ImGui::SetNextItemWidth(width);
    draw_chooser(state, actions, place);
    if (place + 1 < state.compared.size() || one_line) ImGui::SameLine(0, gap);
  }
  draw_modes(state, actions);
  if (arrangement_.mode == Mode::Difference && clips_.size() > 1) draw_gain(state, actions);
}

void Canvas::draw_chooser(const State& state, Actions& actions, size_t place) {
  const Id now = state.compared[place];
  const char letter = char('A' + place);
  const auto shown = fmt::format("{}: {}", letter, name_of_choice(state, now));
  if (!ImGui::BeginCombo(fmt::format("##place{}", letter).c_str(), shown.c_str())) {
    tip(now ? name_of_choice(state, now) : "Choose what is compared");
    return;
  }
  const auto offer = [&](Id id) {
    if (!ImGui::Selectable(name_of_choice(state, id).c_str(), id == now)) return;
    auto ids = state.compared;
    ids[place] = id;
    actions.push(action::Compare{ids});
  };
  offer(0);
  for (const auto& result : state.results) offer(result.id);
  for (const auto& job : state.jobs)
    if (job.status == Job::Status::Running && !state.result(job.id)) offer(job.id);
  ImGui::EndCombo();
}

void Canvas::draw_modes(const State& state, Actions& actions) {
  struct Button {
    const char* name;
    Mode mode;
    Command command;
  };
  constexpr Button kButtons[] = {{"Split", Mode::Split, Command::Split},
                                 {"Tiles", Mode::SideBySide, Command::SideBySide},
                                 {"Blink", Mode::Flicker, Command::Flicker},
                                 {"Diff", Mode::Difference, Command::Difference}};
  const auto& style = ImGui::GetStyle();
  const float gap = style.ItemInnerSpacing.x / 2;
  const auto wrap = [](float width) {
    if (ImGui::GetContentRegionAvail().x < width) ImGui::NewLine();
  };
  ImGui::BeginDisabled(clips_.size() < 2);
  for (const auto& button : kButtons) {
    wrap(ImGui::CalcTextSize(button.name).x + 2 * style.FramePadding.x);
    const bool on = arrangement_.mode == button.mode;
    if (on) ImGui::PushStyleColor(ImGuiCol_Button, ImGui::GetStyleColorVec4(ImGuiCol_ButtonActive));
    if (ImGui::Button(button.name)) apply(button.command, state, actions);
    if (on) ImGui::PopStyleColor();
    tip(help_of(button.command));
    ImGui::SameLine(0, gap);
  }
  ImGui::EndDisabled();
  wrap(ImGui::GetFrameHeight() * 1.1f);
  if (icon_button(icon::kQuestion, "help", help_of(Command::Help))) help_ = !help_;
  ImGui::NewLine();
}

void Canvas::draw_gain(const State& state, Actions& actions) {
  float gain = float(look_.gain);
  ImGui::SetNextItemWidth(px(180));
  if (ImGui::SliderFloat("gain", &gain, float(kLeastGain), float(kMostGain), "%.1fx",
                         ImGuiSliderFlags_Logarithmic))
    look_.gain = gain;
  tip("Full colour at a difference of 255 / gain levels");
  ImGui::SameLine();
  bool is_signed = look_.kind == DifferenceKind::Signed;
  if (ImGui::Checkbox("signed", &is_signed)) apply(Command::DifferenceKind, state, actions);
  tip("Red: more than in the first, blue: less, of the channel that differs most. Otherwise each channel by "
      "itself.");
}

void Canvas::draw_area(const State& state, Textures& textures) {
  const auto extent = extent_of(clips_);
  panes_ = panes_of(arrangement_, area_, extent, px(kGap), ImGui::GetTime());
  view_.arrange(extent, panes_.front().space);
  ImGui::InvisibleButton("##area", vec2(area_.width(), area_.height()),
                         ImGuiButtonFlags_MouseButtonLeft | ImGuiButtonFlags_MouseButtonRight |
                             ImGuiButtonFlags_MouseButtonMiddle);
  ImGui::SetItemKeyOwner(ImGuiKey_MouseWheelY);
  take_mouse();
  auto* list = ImGui::GetWindowDrawList();
  list->PushClipRect(vec2(area_.x0, area_.y0), vec2(area_.x1, area_.y1), true);
  list->AddRectFilled(vec2(area_.x0, area_.y0), vec2(area_.x1, area_.y1), palette().canvas);
  labelled_ = 0;
  if (arrangement_.mode != Mode::Difference) differences_.clear();
  for (const auto& pane : panes_) draw_pane(pane, textures);
  if (arrangement_.mode == Mode::Split)
    for (int i = 0; i + 1 < arrangement_.count; ++i)
      draw_split_line(area_, area_.x0 + arrangement_.lines[size_t(i)] * area_.width(), dragged_line_ == i);
  if (labels_) draw_labels(state);
  list->PopClipRect();
}

void Canvas::draw_pane(const Pane& pane, Textures& textures) {
  const double now = clock_.time();
  const Shot shown = shot_of(clips_[size_t(pane.shown)], now);
  const bool differs = pane.against >= 0;
  const Shot against = differs ? shot_of(clips_[size_t(pane.against)], now) : Shot{};
  const auto picture =
      differs ? differences_.of(size_t(pane.shown - 1), {shown, against, look_}) : shown.picture;
  auto* list = ImGui::GetWindowDrawList();
  list->PushClipRect(vec2(pane.clip.x0, pane.clip.y0), vec2(pane.clip.x1, pane.clip.y1), true);
  const Shot drawn{picture, differs ? 0 : shown.frame};
  if (picture) draw_picture(pane, textures.of(picture, drawn.frame));
  const PixelOverlay overlay{view_, pane, shown, against, drawn};
  draw_grid(overlay);
  labelled_ += draw_values(overlay);
  list->PopClipRect();
}

void Canvas::draw_picture(const Pane& pane, ImTextureID texture) {
  auto* list = ImGui::GetWindowDrawList();
  const Box box = view_.picture_on_screen(pane.space);
  // The renderer would smooth every texture: single pixels are to stay pixels, as the texture itself says.
  const auto& platform = ImGui::GetPlatformIO();
  if (platform.DrawCallback_SetSamplerFromTex)
    list->AddCallback(platform.DrawCallback_SetSamplerFromTex, nullptr);
  list->AddImage(texture, vec2(box.x0, box.y0), vec2(box.x1, box.y1));
  if (platform.DrawCallback_SetSamplerFromTex)
    list->AddCallback(platform.DrawCallback_ResetRenderState, nullptr);
}

void Canvas::draw_labels(const State& state) {
  auto* list = ImGui::GetWindowDrawList();
  for (const auto& pane : panes_) {
    const auto& clip = clips_[size_t(pane.shown)];
    auto title = title_of(state, clip);
    if (pane.against >= 0) title += fmt::format(", minus {}", clips_[size_t(pane.against)].letter);
    list->PushClipRect(vec2(pane.clip.x0, pane.clip.y0), vec2(pane.clip.x1, pane.clip.y1), true);
    draw_label(pane.clip, title, speed_text(state, clip, clips_.front()));
    list->PopClipRect();
  }
  const auto missing = missing_of(state);
  double y = area_.y1 - ImGui::GetTextLineHeight() * double(missing.size()) - px(8);
  for (const auto& text : missing) {
    list->AddText(vec2(area_.x0 + px(10), y), IM_COL32_WHITE, text.c_str());
    y += ImGui::GetTextLineHeight();
  }
}

Point Canvas::zoom_anchor() const {
  const ImVec2 mouse = ImGui::GetIO().MousePos;
  const Point at{mouse.x, mouse.y};
  return pane_at(panes_, at) >= 0 ? at : zoom_pane().middle();
}

const Box& Canvas::zoom_pane() const {
  const ImVec2 mouse = ImGui::GetIO().MousePos;
  const int pane = pane_at(panes_, {mouse.x, mouse.y});
  if (pane >= 0) return panes_[size_t(pane)].space;
  return panes_.empty() ? area_ : panes_.front().space;
}

void Canvas::take_mouse() {
  const auto& io = ImGui::GetIO();
  hovered_ = ImGui::IsItemHovered();
  const int near = line_at(arrangement_, area_, io.MousePos.x, px(kReach));
  if (ImGui::IsItemActivated()) {
    dragged_line_ = ImGui::IsMouseClicked(0) ? near : -1;
    panning_ = dragged_line_ < 0;
  }
  if (!ImGui::IsItemActive()) dragged_line_ = -1, panning_ = false;
  if (dragged_line_ >= 0)
    arrangement_.lines = drag_line(arrangement_.lines, arrangement_.count, dragged_line_,
                                   (io.MousePos.x - area_.x0) / area_.width());
  if (panning_) view_.pan({io.MouseDelta.x, io.MouseDelta.y});
  if (dragged_line_ >= 0 || (hovered_ && near >= 0)) ImGui::SetMouseCursor(ImGuiMouseCursor_ResizeEW);
  if (hovered_ && io.MouseWheel != 0)
    view_.zoom(std::pow(kNotch, double(io.MouseWheel)), zoom_anchor(), zoom_pane());
  if (hovered_ && near < 0 && ImGui::IsMouseDoubleClicked(0)) view_.fit();
  readout_.clear();
  const int pane = pane_at(panes_, {io.MousePos.x, io.MousePos.y});
  if (!hovered_ || pane < 0) return;
  const auto& space = panes_[size_t(pane)].space;
  readout_ = readout(clips_, clock_.time(), view_.to_picture({io.MousePos.x, io.MousePos.y}, space));
}

void Canvas::take_keys(const State& state, Actions& actions) {
  // The help lies over the canvas, which then is not hovered.
  const bool here = help_ || hovered_ || ImGui::IsWindowFocused(ImGuiFocusedFlags_ChildWindows);
  if (!here || ImGui::GetIO().WantTextInput) return;
  for (const auto command : pressed_commands()) apply(command, state, actions);
}

void Canvas::ask_for_figures(const State& state, Actions& actions) {
  for (const auto& pair : to_measure(state, clips_))
    if (asked_.insert(pair).second) actions.push(action::Measure{pair.first, pair.second});
}

}  // namespace sagelab::ui
