// SPDX-License-Identifier: Apache-2.0
// What keys do in the canvas: one table for what is handled and for what the help says. Where tev or
// video-compare have a key for it, it is theirs.
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
// "Split screen (S)": of a button that does the same.
std::string help_of(Command command);

}  // namespace sagelab::ui
