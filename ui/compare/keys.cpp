// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace sagelab::ui {
namespace {

constexpr ImGuiKeyChord kShift = ImGuiMod_Shift, kCtrl = ImGuiMod_Ctrl;

const std::vector<Binding>& table() {
  static const std::vector<Binding> all{
      {Command::Play, {ImGuiKey_Space}, false, "Space", "Play or pause"},
      {Command::StepBack, {ImGuiKey_A}, true, "A", "One frame back"},
      {Command::Step, {ImGuiKey_D}, true, "D", "One frame on"},
      {Command::SecondBack, {ImGuiKey_LeftArrow}, true, "Left", "One second back"},
      {Command::Second, {ImGuiKey_RightArrow}, true, "Right", "One second on"},
      {Command::First, {ImGuiKey_Home}, false, "Home", "First frame"},
      {Command::Last, {ImGuiKey_End}, false, "End", "Last frame"},
      {Command::Slower, {ImGuiKey_J}, false, "J", "Half the speed"},
      {Command::Faster, {ImGuiKey_L}, false, "L", "Twice the speed"},
      {Command::Loop, {ImGuiKey_Period, ImGuiKey_O}, false, ". or O", "Loop, or stop at the end"},
      {Command::Worst, {ImGuiKey_W}, false, "W", "The frame with the lowest PSNR"},
      {Command::ShowA, {ImGuiKey_1, ImGuiKey_Keypad1}, false, "1", "A alone, and back"},
      {Command::ShowB, {ImGuiKey_2, ImGuiKey_Keypad2}, false, "2", "B alone, and back"},
      {Command::ShowC, {ImGuiKey_3, ImGuiKey_Keypad3}, false, "3", "C alone, and back"},
      {Command::Split, {ImGuiKey_G}, false, "G", "Split by a line"},
      {Command::SideBySide, {ImGuiKey_T}, false, "T", "Tiles, side by side"},
      {Command::Flicker, {ImGuiKey_B}, false, "B", "Blink from one to the next"},
      {Command::Difference, {ImGuiKey_0}, false, "0", "Difference to A, and back"},
      {Command::Swap, {ImGuiKey_S}, false, "S", "Swap A and B"},
      {Command::Fit, {ImGuiKey_6, ImGuiKey_F, kCtrl | ImGuiKey_9}, false, "6, F or Ctrl+9", "Fit the window"},
      {Command::ActualSize, {ImGuiKey_4, kCtrl | ImGuiKey_0}, false, "4 or Ctrl+0", "Pixel by pixel, 1:1"},
      {Command::Half, {ImGuiKey_5}, false, "5", "Half of what fits"},
      {Command::Twice, {ImGuiKey_7}, false, "7", "Twice what fits"},
      {Command::FourTimes, {ImGuiKey_8}, false, "8", "4 times what fits"},
      {Command::EightTimes, {ImGuiKey_9}, false, "9", "8 times what fits"},
      {Command::ZoomIn,
       {ImGuiKey_Equal, kShift | ImGuiKey_Equal, ImGuiKey_KeypadAdd},
       true,
       "+",
       "Larger, about the cursor"},
      {Command::ZoomOut, {ImGuiKey_Minus, ImGuiKey_KeypadSubtract}, true, "-", "Smaller"},
      {Command::Reset, {ImGuiKey_R}, false, "R", "View, lines, gain and speed as at first"},
      {Command::MoreGain, {ImGuiKey_E}, true, "E", "Difference: twice the gain"},
      {Command::LessGain, {kShift | ImGuiKey_E}, true, "Shift+E", "Difference: half the gain"},
      {Command::DifferenceKind, {ImGuiKey_Y}, false, "Y", "Difference: signed, or of each channel"},
      {Command::Labels, {ImGuiKey_V, ImGuiKey_I}, false, "V or I", "Titles, with the median time of a step"},
      {Command::Help, {ImGuiKey_H, kShift | ImGuiKey_Slash, ImGuiKey_F1}, false, "H or ?", "This help"},
  };
  return all;
}

bool is_down_now(ImGuiKeyChord chord, bool repeats) {
  const auto key = ImGuiKey(chord & ~ImGuiMod_Mask_);
  return ImGui::GetIO().KeyMods == (chord & ImGuiMod_Mask_) && ImGui::IsKeyPressed(key, repeats);
}

}  // namespace

std::span<const Binding> bindings() {
  return table();
}

std::span<const MouseHint> mouse_hints() {
  static constexpr MouseHint kHints[] = {{"Wheel", "Zoom about the cursor, up to single pixels"},
                                         {"Drag", "Move the picture, or the line that splits it"},
                                         {"Double click", "Fit the window"},
                                         {"Click the strip", "Go to that frame"}};
  return kHints;
}

std::vector<Command> pressed_commands() {
  std::vector<Command> commands;
  for (const auto& binding : table())
    if (std::any_of(binding.chords.begin(), binding.chords.end(),
                    [&](ImGuiKeyChord chord) { return is_down_now(chord, binding.repeats); }))
      commands.push_back(binding.command);
  return commands;
}

std::string help_of(Command command) {
  const auto& all = table();
  const auto at = std::find_if(all.begin(), all.end(),
                               [&](const Binding& binding) { return binding.command == command; });
  return fmt::format("{} ({})", at->what, at->keys);
}

}  // namespace sagelab::ui
