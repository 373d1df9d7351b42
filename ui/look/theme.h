// SPDX-License-Identifier: Apache-2.0
// Colours, spacing and type: one theme, dark or light, at any scale.
#pragma once

#include <imgui.h>

#include <string>
#include <string_view>
#include <vector>

namespace sagelab::ui {

struct Palette {
  ImU32 canvas;  // behind pictures: neutral grey, so that it does not colour what is judged
  ImU32 text, muted, faint;
  ImU32 accent, good, warning, bad;
  ImU32 marker;  // of a switch in a plot
};

// Sets ImGui's and ImPlot's style. scale: of the display times the user's own; 1 is 96 dots per inch.
void apply_theme(bool dark, float scale);
const Palette& palette();
bool is_dark();
// Pixels of a length at 96 dots per inch.
float px(float length);

// The same backend has the same colour everywhere: "sage2", "sdpa(flash)", also inside "check(sage2,sdpa)",
// which is drawn as what it serves.
ImU32 colour_of(std::string_view backend);
// What colour_of() tells apart for certain; others may share a colour.
void tell_apart(std::vector<std::string> backends);

// Small text in a muted colour, for what explains.
void note(const char* text);
// As much of a line as the width holds, with an ellipsis where some is left out.
std::string shortened(const std::string& text, float width);
// A line of text, as much as there is room for; the whole of it is its tip where some is left out.
void line(const std::string& text, ImU32 colour);
// Of a plot: x counts steps from 1; ticks are whole ones.
void setup_steps(int steps);
// A heading with a line; shorter than ImGui's own.
void heading(const char* text);
// A square button with an icon. The line goes on after it.
bool icon_button(const char* icon, const char* id, std::string_view help, bool enabled = true);
// A tip for the item before, wrapped. Nothing where text is empty.
void tip(std::string_view text);

}  // namespace sagelab::ui
