// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/overlay.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string_view>

#include "ui/compare/keys.h"
#include "ui/look/theme.h"

namespace sagelab::ui {
namespace {

constexpr ImU32 kPlate = IM_COL32(0, 0, 0, 215), kPlateText = IM_COL32(255, 255, 255, 255),
                kPlateMuted = IM_COL32(200, 205, 210, 255), kGrid = IM_COL32(128, 128, 128, 90);

// What the help takes at 96 dots per inch, about; where the canvas is smaller it lies over the whole window.
constexpr float kHelpWidth = 680, kHelpHeight = 450;

struct Range {
  int x0, y0, x1, y1;  // pixels in sight
};

Range pixels_in_sight(const PixelOverlay& o) {
  const Point from = o.view.to_picture({o.pane.clip.x0, o.pane.clip.y0}, o.pane.space);
  const Point to = o.view.to_picture({o.pane.clip.x1, o.pane.clip.y1}, o.pane.space);
  const auto extent = o.view.picture();
  return {std::max(int(std::floor(from.x)), 0), std::max(int(std::floor(from.y)), 0),
          std::min(int(std::ceil(to.x)), int(extent.width)),
          std::min(int(std::ceil(to.y)), int(extent.height))};
}

// Of the three channels, readable on the pixel's own colour.
constexpr ImU32 kOnDark[] = {IM_COL32(255, 205, 195, 255), IM_COL32(200, 255, 200, 255),
                             IM_COL32(205, 225, 255, 255)};
constexpr ImU32 kOnLight[] = {IM_COL32(110, 0, 0, 255), IM_COL32(0, 60, 0, 255), IM_COL32(0, 15, 125, 255)};
constexpr double kLightFrom = 115;  // of 255

double brightness(const Rgb& c) {
  return .299 * c[0] + .587 * c[1] + .114 * c[2];
}

// Draws numbers of one size as the font's own quads: there may be ten thousand of them in a frame.
class Numbers {
 public:
  explicit Numbers(float size) : size_(size) {
    auto* baked = ImGui::GetFont()->GetFontBaked(size);
    constexpr std::string_view kAll = "0123456789+-";
    for (const char c : kAll) baked->FindGlyph(ImWchar(c));  // all of them before any is looked at
    for (const char c : kAll) glyphs_[size_t(c)] = *baked->FindGlyph(ImWchar(c));
    scale_ = size / baked->Size;
  }
  float size() const { return size_; }
  // In the middle of a line; signed: with + or -.
  void draw(ImVec2 top, int number, bool is_signed, ImU32 colour) const {
    std::array<char, 8> text{'+'};
    const bool plus = is_signed && number >= 0;
    const char* end = std::to_chars(text.data() + (plus ? 1 : 0), text.data() + text.size(), number).ptr;
    const std::string_view all(text.data(), size_t(end - text.data()));
    float width = 0;
    for (const char c : all) width += glyphs_[size_t(c)].AdvanceX * scale_;
    quads({std::floor(top.x - width / 2), std::floor(top.y)}, all, colour);
  }

 private:
  void quads(ImVec2 at, std::string_view text, ImU32 colour) const {
    auto* list = ImGui::GetWindowDrawList();
    list->PrimReserve(6 * int(text.size()), 4 * int(text.size()));
    for (const char c : text) {
      const auto& g = glyphs_[size_t(c)];
      list->PrimRectUV({at.x + g.X0 * scale_, at.y + g.Y0 * scale_},
                       {at.x + g.X1 * scale_, at.y + g.Y1 * scale_}, {g.U0, g.V0}, {g.U1, g.V1}, colour);
      at.x += g.AdvanceX * scale_;
    }
  }
  std::array<ImFontGlyph, 128> glyphs_;
  float size_, scale_ = 1;
};

// Of one pixel; whether it has any.
bool draw_values_of(const PixelOverlay& o, const Numbers& numbers, Point middle) {
  const auto extent = o.view.picture();
  const auto value = value_at(o.shot, extent, middle), other = value_at(o.against, extent, middle);
  if (!value || (o.against.picture && !other)) return false;
  const bool differs = other.has_value();
  const auto shown =
      differs ? difference(*value, *other) : std::array<int, 3>{(*value)[0], (*value)[1], (*value)[2]};
  const auto below = value_at(o.drawn, extent, middle);
  const bool light = below && brightness(*below) > kLightFrom;
  const Point at = o.view.to_screen(middle, o.pane.space);
  const float lead = numbers.size() * 1.05f;
  for (size_t c = 0; c < 3; ++c)
    numbers.draw(vec2(at.x, at.y + (double(c) - 1.5) * lead), shown[c], differs,
                 (light ? kOnLight : kOnDark)[c]);
  return true;
}

}  // namespace

void draw_grid(const PixelOverlay& o) {
  if (o.view.scale() < px(kGridFrom)) return;
  auto* list = ImGui::GetWindowDrawList();
  const auto range = pixels_in_sight(o);
  const Point from = o.view.to_screen({double(range.x0), double(range.y0)}, o.pane.space);
  const Point to = o.view.to_screen({double(range.x1), double(range.y1)}, o.pane.space);
  for (int x = range.x0; x <= range.x1; ++x) {
    const double at = o.view.to_screen({double(x), 0}, o.pane.space).x;
    list->AddLine(vec2(at, from.y), vec2(at, to.y), kGrid);
  }
  for (int y = range.y0; y <= range.y1; ++y) {
    const double at = o.view.to_screen({0, double(y)}, o.pane.space).y;
    list->AddLine(vec2(from.x, at), vec2(to.x, at), kGrid);
  }
}

int draw_values(const PixelOverlay& o) {
  if (o.view.scale() < px(kValuesFrom)) return 0;
  const float size = std::min(px(14), float(o.view.scale()) / 3.6f);
  const Numbers numbers(size);
  const auto range = pixels_in_sight(o);
  // At once, since growing by steps copies all of it again and again: three numbers of at most four
  // characters.
  auto* list = ImGui::GetWindowDrawList();
  const int quads = std::max(range.x1 - range.x0, 0) * std::max(range.y1 - range.y0, 0) * 3 * 4;
  list->VtxBuffer.reserve(list->VtxBuffer.Size + 4 * quads);
  list->IdxBuffer.reserve(list->IdxBuffer.Size + 6 * quads);
  int count = 0;
  for (int y = range.y0; y < range.y1; ++y)
    for (int x = range.x0; x < range.x1; ++x) count += draw_values_of(o, numbers, {x + .5, y + .5});
  return count;
}

void draw_label(const Box& clip, const std::string& title, const std::string& below) {
  auto* list = ImGui::GetWindowDrawList();
  auto* font = ImGui::GetFont();
  const float large = ImGui::GetFontSize(), small = large * .88f, pad = px(6);
  const ImVec2 first = font->CalcTextSizeA(large, FLT_MAX, 0, title.c_str());
  const ImVec2 second = below.empty() ? ImVec2{} : font->CalcTextSizeA(small, FLT_MAX, 0, below.c_str());
  const ImVec2 from = vec2(clip.x0 + pad, clip.y0 + pad);
  const ImVec2 to{from.x + std::max(first.x, second.x) + 2 * pad, from.y + first.y + second.y + pad};
  list->AddRectFilled(from, to, kPlate, px(4));
  list->AddText(font, large, {from.x + pad, from.y + pad / 2}, kPlateText, title.c_str());
  if (!below.empty())
    list->AddText(font, small, {from.x + pad, from.y + pad / 2 + first.y}, kPlateMuted, below.c_str());
}

void draw_split_line(const Box& canvas, double x, bool active) {
  auto* list = ImGui::GetWindowDrawList();
  const ImU32 colour = active ? palette().accent : IM_COL32(255, 255, 255, 220);
  list->AddLine(vec2(x, canvas.y0), vec2(x, canvas.y1), IM_COL32(0, 0, 0, 160), px(3));
  list->AddLine(vec2(x, canvas.y0), vec2(x, canvas.y1), colour, px(1));
  const double y = canvas.middle().y;
  list->AddCircleFilled(vec2(x, y), px(7), IM_COL32(0, 0, 0, 160));
  list->AddCircleFilled(vec2(x, y), px(5), colour);
}

bool draw_help(const Box& canvas) {
  const auto* screen = ImGui::GetMainViewport();
  const bool roomy = canvas.width() > px(kHelpWidth) && canvas.height() > px(kHelpHeight);
  const ImVec2 middle = roomy ? vec2(canvas.middle().x, canvas.middle().y) : screen->GetWorkCenter();
  ImGui::SetNextWindowPos(middle, ImGuiCond_Always, {.5f, .5f});
  ImGui::SetNextWindowSizeConstraints({0, 0}, screen->WorkSize);
  ImGui::SetNextWindowBgAlpha(.95f);
  constexpr auto kFlags = ImGuiWindowFlags_NoDecoration | ImGuiWindowFlags_AlwaysAutoResize |
                          ImGuiWindowFlags_NoSavedSettings | ImGuiWindowFlags_NoDocking |
                          ImGuiWindowFlags_NoMove | ImGuiWindowFlags_NoFocusOnAppearing;
  bool open = true;
  if (ImGui::Begin("##canvas-help", nullptr, kFlags & ~ImGuiWindowFlags_NoScrollbar)) {
    const auto row = [](const char* keys, const char* what) {
      ImGui::TableNextColumn();
      ImGui::TextColored(ImGui::ColorConvertU32ToFloat4(palette().accent), "%s", keys);
      ImGui::TableNextColumn();
      ImGui::TextUnformatted(what);
    };
    if (ImGui::BeginTable("keys", 4, ImGuiTableFlags_SizingFixedFit)) {
      for (const auto& binding : bindings()) row(binding.keys, binding.what);
      for (const auto& hint : mouse_hints()) row(hint.mouse, hint.what);
      ImGui::EndTable();
    }
    if (ImGui::IsWindowHovered() && ImGui::IsMouseClicked(0)) open = false;
  }
  ImGui::End();
  return open;
}

}  // namespace sagelab::ui
