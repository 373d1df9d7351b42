// SPDX-License-Identifier: Apache-2.0
// What keys do in the canvas: one table for what is handled and for what the help says. What video-compare
// has a key for is on that key, what only tev has one for on tev's; but for split and tiles, which
// video-compare goes round by Shift+M. T, B, W, O and F1 mean something else there. The test names all.
#pragma once

#include <imgui.h>

#include <span>
#include <string>
#include <vector>

namespace sagelab::ui {

enum class Command {
  Play,
  StepBack,
  Step,
  SecondBack,
  Second,
  First,
  Last,
  Slower,
  Faster,
  Loop,
  Worst,
  ShowA,
  ShowB,
  ShowC,
  Split,
  SideBySide,
  Flicker,
  Difference,
  Swap,
  Fit,
  ActualSize,
  Half,
  Twice,
  FourTimes,
  EightTimes,
  ZoomIn,
  ZoomOut,
  Reset,
  MoreGain,
  LessGain,
  DifferenceKind,
  Labels,
  Help,
};

struct Binding {
  Command command;
  std::vector<ImGuiKeyChord> chords;
  bool repeats = false;  // while the key is held
  const char *keys, *what;
};

std::span<const Binding> bindings();
// What the mouse does: pairs of text, for the help.
struct MouseHint {
  const char *mouse, *what;
};
std::span<const MouseHint> mouse_hints();
// Of the keys that went down in this frame.
std::vector<Command> pressed_commands();
// "Swap A and B (S)": of a button that does the same.
std::string help_of(Command command);

}  // namespace sagelab::ui
