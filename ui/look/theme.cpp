// SPDX-License-Identifier: Apache-2.0
#include "ui/look/theme.h"

#include <implot.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "ui/look/fonts.h"

namespace sagelab::ui {
namespace {

constexpr ImU32 rgb(uint32_t hex, uint8_t alpha = 255) {
  return IM_COL32(hex >> 16 & 255, hex >> 8 & 255, hex & 255, alpha);
}
ImVec4 vec(uint32_t hex, float alpha = 1) {
  auto colour = ImGui::ColorConvertU32ToFloat4(rgb(hex));
  colour.w = alpha;
  return colour;
}

struct Tones {
  uint32_t window, panel, popup, frame, frame_hover, frame_active, border, text, muted, accent, accent_hover;
  Palette palette;
};

constexpr Tones kDark{0x17191c,
                      0x1d2024,
                      0x24282d,
                      0x2a2e34,
                      0x343941,
                      0x3f4650,
                      0x34383f,
                      0xe6e8ea,
                      0x9aa1a9,
                      0x2f7fd6,
                      0x4a95e8,
                      {rgb(0x202020), rgb(0xe6e8ea), rgb(0x9aa1a9), rgb(0x5c636b), rgb(0x4a95e8),
                       rgb(0x5fbf77), rgb(0xe0b341), rgb(0xe66b62), rgb(0xf2d16b)}};
constexpr Tones kLight{0xe7e9ec,
                       0xf6f7f8,
                       0xffffff,
                       0xffffff,
                       0xeef2f7,
                       0xdde6f0,
                       0xc6ccd3,
                       0x1b1f24,
                       0x59626c,
                       0x1f6fc4,
                       0x3a86d8,
                       {rgb(0x808080), rgb(0x1b1f24), rgb(0x59626c), rgb(0x9aa3ad), rgb(0x1f6fc4),
                        rgb(0x23803d), rgb(0x8f6400), rgb(0xc0322a), rgb(0xb37700)}};

bool dark_now = true;
std::vector<std::string> told_apart;
float scale_now = 1;

void set_shapes(ImGuiStyle& style) {
  style.WindowPadding = {10, 10};
  style.FramePadding = {8, 4};
  style.ItemSpacing = {8, 6};
  style.ItemInnerSpacing = {6, 4};
  style.CellPadding = {6, 3};
  style.IndentSpacing = 16;
  style.ScrollbarSize = 12;
  style.GrabMinSize = 10;
  style.WindowBorderSize = style.ChildBorderSize = style.PopupBorderSize = 1;
  style.FrameBorderSize = 1;
  style.WindowRounding = style.ChildRounding = 4;
  style.PopupRounding = 6;
  style.FrameRounding = style.GrabRounding = style.TabRounding = 4;
  style.ScrollbarRounding = 6;
  style.TabBarOverlineSize = 2;
  style.DockingSeparatorSize = 2;
  style.WindowMenuButtonPosition = ImGuiDir_None;
  style.SeparatorTextBorderSize = 1;
  style.SeparatorTextPadding = {0, 4};
}

void set_surfaces(ImVec4* c, const Tones& t) {
  c[ImGuiCol_WindowBg] = vec(t.panel);
  c[ImGuiCol_ChildBg] = vec(t.panel, 0);
  c[ImGuiCol_PopupBg] = vec(t.popup);
  c[ImGuiCol_Border] = vec(t.border);
  c[ImGuiCol_BorderShadow] = {0, 0, 0, 0};
  c[ImGuiCol_MenuBarBg] = c[ImGuiCol_TitleBg] = c[ImGuiCol_TitleBgActive] = vec(t.window);
  c[ImGuiCol_TitleBgCollapsed] = c[ImGuiCol_DockingEmptyBg] = vec(t.window);
  c[ImGuiCol_Tab] = c[ImGuiCol_TabDimmed] = vec(t.window);
  c[ImGuiCol_TabSelected] = c[ImGuiCol_TabDimmedSelected] = vec(t.panel);
  c[ImGuiCol_TabHovered] = vec(t.frame_active);
  c[ImGuiCol_TabSelectedOverline] = vec(t.accent);
  c[ImGuiCol_TabDimmedSelectedOverline] = vec(t.border);
  c[ImGuiCol_ScrollbarBg] = vec(t.panel, 0);
  c[ImGuiCol_ScrollbarGrab] = vec(t.frame_active);
  c[ImGuiCol_ScrollbarGrabHovered] = c[ImGuiCol_ScrollbarGrabActive] = vec(t.muted);
  c[ImGuiCol_ModalWindowDimBg] = {0, 0, 0, .45f};
  c[ImGuiCol_TableHeaderBg] = vec(t.window);
  c[ImGuiCol_TableBorderStrong] = c[ImGuiCol_TableBorderLight] = vec(t.border);
  c[ImGuiCol_TableRowBgAlt] = vec(t.muted, .06f);
}

void set_controls(ImVec4* c, const Tones& t) {
  c[ImGuiCol_Text] = vec(t.text);
  c[ImGuiCol_TextDisabled] = vec(t.muted);
  c[ImGuiCol_TextSelectedBg] = vec(t.accent, .4f);
  c[ImGuiCol_FrameBg] = vec(t.frame);
  c[ImGuiCol_FrameBgHovered] = vec(t.frame_hover);
  c[ImGuiCol_FrameBgActive] = vec(t.frame_active);
  c[ImGuiCol_Button] = vec(t.frame);
  c[ImGuiCol_ButtonHovered] = vec(t.frame_active);
  c[ImGuiCol_ButtonActive] = vec(t.accent);
  c[ImGuiCol_Header] = vec(t.accent, .28f);
  c[ImGuiCol_HeaderHovered] = vec(t.accent, .4f);
  c[ImGuiCol_HeaderActive] = vec(t.accent, .55f);
  c[ImGuiCol_CheckMark] = vec(t.accent_hover);
  c[ImGuiCol_SliderGrab] = vec(t.accent);
  c[ImGuiCol_SliderGrabActive] = vec(t.accent_hover);
  c[ImGuiCol_Separator] = vec(t.border);
  c[ImGuiCol_SeparatorHovered] = c[ImGuiCol_SeparatorActive] = vec(t.accent);
  c[ImGuiCol_ResizeGrip] = vec(t.border);
  c[ImGuiCol_ResizeGripHovered] = c[ImGuiCol_ResizeGripActive] = vec(t.accent);
  c[ImGuiCol_PlotHistogram] = vec(t.accent);
  c[ImGuiCol_DockingPreview] = vec(t.accent, .5f);
  c[ImGuiCol_DragDropTarget] = c[ImGuiCol_NavCursor] = vec(t.accent);
}

void set_plots(const Tones& t, bool dark) {
  auto& style = ImPlot::GetStyle();
  style = ImPlotStyle();
  dark ? ImPlot::StyleColorsDark() : ImPlot::StyleColorsLight();
  style.Colors[ImPlotCol_FrameBg] = style.Colors[ImPlotCol_PlotBg] = {0, 0, 0, 0};
  style.Colors[ImPlotCol_PlotBorder] = vec(t.border);
  style.PlotPadding = {px(4), px(6)};
  style.LegendPadding = {px(6), px(4)};
  style.MajorTickLen = {px(4), px(4)};
  style.MinorTickLen = {px(2), px(2)};
  style.PlotMinSize = {px(80), px(50)};
}

}  // namespace

void apply_theme(bool dark, float scale) {
  dark_now = dark, scale_now = scale;
  const auto& tones = dark ? kDark : kLight;
  ImGuiStyle style;
  dark ? ImGui::StyleColorsDark(&style) : ImGui::StyleColorsLight(&style);
  set_shapes(style);
  set_surfaces(style.Colors, tones);
  set_controls(style.Colors, tones);
  style.ScaleAllSizes(scale);
  style.FontSizeBase = kFontSize;
  style.FontScaleDpi = scale;
  ImGui::GetStyle() = style;
  set_plots(tones, dark);
}

const Palette& palette() {
  return (dark_now ? kDark : kLight).palette;
}

bool is_dark() {
  return dark_now;
}

float px(float length) {
  return length * scale_now;
}

void tell_apart(std::vector<std::string> backends) {
  told_apart = std::move(backends);
  std::erase_if(told_apart, [](const std::string& spec) { return spec == "sdpa" || spec == "sage2"; });
}

ImU32 colour_of(std::string_view backend) {
  constexpr std::array<uint32_t, 11> kOthers{0xb07fd0, 0xc9697f, 0xd9873b, 0x8fae45, 0xc7a23e, 0x6d6fe0,
                                             0x4fc3d9, 0xe38fc4, 0x9c7a5b, 0xd94f4f, 0x9aa5b1};
  constexpr std::string_view kWrappers[] = {"check(", "timed(", "prefer("};
  for (const auto wrapper : kWrappers)
    if (backend.starts_with(wrapper)) backend.remove_prefix(wrapper.size());
  // What is left of "check(sage2,sdpa)": the first argument, with its own parentheses.
  int depth = 0;
  for (size_t i = 0; i < backend.size(); ++i) {
    depth += backend[i] == '(' ? 1 : backend[i] == ')' ? -1 : 0;
    if (depth >= 0 && (depth > 0 || backend[i] != ',')) continue;
    backend = backend.substr(0, i);
    break;
  }
  if (backend == "sdpa") return rgb(0x5b9bd5);
  if (backend == "sage2") return rgb(0x3fae8a);
  const auto at = std::find(told_apart.begin(), told_apart.end(), backend);
  if (at != told_apart.end()) return rgb(kOthers[size_t(at - told_apart.begin()) % kOthers.size()]);
  uint32_t hash = 2166136261u;
  for (const char c : backend) hash = (hash ^ uint8_t(c)) * 16777619u;
  return rgb(kOthers[hash % kOthers.size()]);
}

void note(const char* text) {
  ImGui::PushStyleColor(ImGuiCol_Text, palette().muted);
  ImGui::PushFont(nullptr, ImGui::GetStyle().FontSizeBase * .88f);
  ImGui::TextWrapped("%s", text);
  ImGui::PopFont();
  ImGui::PopStyleColor();
}

std::string shortened(const std::string& text, float width) {
  constexpr const char* kEllipsis = "\xe2\x80\xa6";
  const auto width_of = [](const std::string& shown) { return ImGui::CalcTextSize(shown.c_str()).x; };
  if (width_of(text) <= width) return text;
  const auto inside = [&](size_t at) { return (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80; };
  // The most bytes that fit, of whole characters.
  size_t fits = 0, too_many = text.size();
  while (fits + 1 < too_many) {
    const size_t middle = (fits + too_many) / 2;
    size_t end = middle;
    while (end > fits && inside(end)) --end;
    if (end > fits && width_of(text.substr(0, end) + kEllipsis) <= width)
      fits = end;
    else
      too_many = middle;
  }
  return text.substr(0, fits) + kEllipsis;
}

void line(const std::string& text, ImU32 colour) {
  const auto shown = shortened(text, ImGui::GetContentRegionAvail().x);
  ImGui::PushStyleColor(ImGuiCol_Text, colour);
  ImGui::TextUnformatted(shown.c_str());
  ImGui::PopStyleColor();
  if (shown != text) tip(text);
}

void setup_steps(int steps) {
  constexpr int kEach = 12;  // more of them leave that to the plot
  ImPlot::SetupAxisLimits(ImAxis_X1, .4, steps + .6, ImPlotCond_Always);
  if (steps > 1 && steps <= kEach) ImPlot::SetupAxisTicks(ImAxis_X1, 1, steps, steps);
}

void heading(const char* text) {
  ImGui::SeparatorText(text);
}

bool icon_button(const char* icon, const char* id, std::string_view help, bool enabled) {
  const float side = ImGui::GetFrameHeight();
  ImGui::BeginDisabled(!enabled);
  ImGui::PushStyleVar(ImGuiStyleVar_FramePadding, {0, ImGui::GetStyle().FramePadding.y});
  const bool pressed = ImGui::Button((std::string(icon) + "##" + id).c_str(), {side * 1.1f, side});
  ImGui::PopStyleVar();
  ImGui::EndDisabled();
  tip(help);
  ImGui::SameLine(0, ImGui::GetStyle().ItemInnerSpacing.x / 2);
  return pressed;
}

void tip(std::string_view text) {
  if (text.empty() ||
      !ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip | ImGuiHoveredFlags_AllowWhenDisabled))
    return;
  if (!ImGui::BeginTooltip()) return;
  ImGui::PushTextWrapPos(px(360));
  ImGui::TextUnformatted(text.data(), text.data() + text.size());
  ImGui::PopTextWrapPos();
  ImGui::EndTooltip();
}

}  // namespace sagelab::ui
