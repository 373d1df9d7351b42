// SPDX-License-Identifier: Apache-2.0
// Each key beside what it does in video-compare (README, Controls) and in tev (src/HelpWindow.cpp).
#include "ui/compare/keys.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <set>

namespace sagelab::ui {
namespace {

constexpr ImGuiKeyChord kShift = ImGuiMod_Shift, kCtrl = ImGuiMod_Ctrl;
constexpr char kVideoCompare[] = "video-compare", kTev[] = "tev";

struct Key {
  ImGuiKeyChord chord;
  Command command;
  const char *program, *there;
};

// What the reference does with the key, in its own words.
constexpr Key kShared[] = {
    {ImGuiKey_Space, Command::Play, kVideoCompare, "Toggle play/pause"},
    {ImGuiKey_A, Command::StepBack, kVideoCompare, "Move to the previous frame in the buffer"},
    {ImGuiKey_D, Command::Step, kVideoCompare, "Move to the next frame in the buffer"},
    {ImGuiKey_LeftArrow, Command::SecondBack, kVideoCompare, "Seek 1 second backward"},
    {ImGuiKey_RightArrow, Command::Second, kVideoCompare, "Seek 1 second forward"},
    {ImGuiKey_Home, Command::First, kTev, "Select first image"},
    {ImGuiKey_End, Command::Last, kTev, "Select last image"},
    {ImGuiKey_J, Command::Slower, kVideoCompare, "Reduce playback speed"},
    {ImGuiKey_L, Command::Faster, kVideoCompare, "Increase playback speed"},
    {ImGuiKey_Period, Command::Loop, kVideoCompare, "Toggle forward-only in-buffer loop/pause"},
    {ImGuiKey_1, Command::ShowA, kTev, "Select N-th image"},
    {ImGuiKey_2, Command::ShowB, kTev, "Select N-th image"},
    {ImGuiKey_3, Command::ShowC, kTev, "Select N-th image"},
    {ImGuiKey_0, Command::Difference, kVideoCompare, "Toggle video/subtraction mode"},
    {ImGuiKey_S, Command::Swap, kVideoCompare, "Swap left and right video"},
    {ImGuiKey_6, Command::Fit, kVideoCompare, "Zoom 100% (x1)"},  // of the picture in its window
    {ImGuiKey_F, Command::Fit, kTev, "Zoom to fit"},
    {kCtrl | ImGuiKey_9, Command::Fit, kTev, "Zoom to fit"},
    {ImGuiKey_4, Command::ActualSize, kVideoCompare, "Zoom to 1:1 pixels"},
    {kCtrl | ImGuiKey_0, Command::ActualSize, kTev, "Zoom to actual size"},
    {ImGuiKey_5, Command::Half, kVideoCompare, "Zoom 50% (x0.5)"},
    {ImGuiKey_7, Command::Twice, kVideoCompare, "Zoom 200% (x2)"},
    {ImGuiKey_8, Command::FourTimes, kVideoCompare, "Zoom 400% (x4)"},
    {ImGuiKey_9, Command::EightTimes, kVideoCompare, "Zoom 800% (x8)"},
    {kShift | ImGuiKey_Equal, Command::ZoomIn, kTev, "Zoom in of image"},
    {ImGuiKey_KeypadAdd, Command::ZoomIn, kTev, "Zoom in of image"},
    {ImGuiKey_Minus, Command::ZoomOut, kTev, "Zoom out of image"},
    {ImGuiKey_KeypadSubtract, Command::ZoomOut, kTev, "Zoom out of image"},
    {ImGuiKey_R, Command::Reset, kVideoCompare, "Global re-center and reset zoom to 100% (x1)"},
    {ImGuiKey_E, Command::MoreGain, kTev, "Increase exposure by 0.5"},
    {kShift | ImGuiKey_E, Command::LessGain, kTev, "Decrease exposure by 0.5"},
    {ImGuiKey_Y, Command::DifferenceKind, kVideoCompare, "Cycle through subtraction modes"},
    {ImGuiKey_V, Command::Labels, kVideoCompare, "Toggle video info overlay"},
    {ImGuiKey_I, Command::Labels, kTev, "Show image info and metadata"},
    {ImGuiKey_H, Command::Help, kVideoCompare, "Toggle on-screen help text for controls"},
    {kShift | ImGuiKey_Slash, Command::Help, kTev, "Show help (this window)"},
};

// Deliberately not theirs. program: which one has the key for something else; empty: neither has it.
constexpr Key kOwn[] = {
    {ImGuiKey_G, Command::Split, "", ""},  // video-compare goes round its layouts by Shift+M
    {ImGuiKey_T, Command::SideBySide, kVideoCompare, "Toggle nearest-neighbor/bilinear texture filtering"},
    {ImGuiKey_B, Command::Flicker, kTev, "Draw a border around the image (hold)"},
    {ImGuiKey_W, Command::Worst, kTev, "Select previous image"},
    {ImGuiKey_O, Command::Loop, kTev, "Increase offset by 0.1"},
    {ImGuiKey_F1, Command::Help, kVideoCompare, "Toggle Histogram window"},
    {ImGuiKey_Equal, Command::ZoomIn, "", ""},  // + without Shift
    {ImGuiKey_Keypad1, Command::ShowA, "", ""},
    {ImGuiKey_Keypad2, Command::ShowB, "", ""},
    {ImGuiKey_Keypad3, Command::ShowC, "", ""},
};

std::optional<Command> command_of(ImGuiKeyChord chord) {
  for (const auto& binding : bindings())
    if (std::count(binding.chords.begin(), binding.chords.end(), chord) > 0) return binding.command;
  return std::nullopt;
}

TEST(Keys, EachCommandHasOneBindingAndEachChordOneCommand) {
  std::set<ImGuiKeyChord> chords;
  std::set<Command> commands;
  for (const auto& binding : bindings()) {
    EXPECT_TRUE(commands.insert(binding.command).second) << binding.what;
    EXPECT_FALSE(binding.chords.empty());
    for (const auto chord : binding.chords) EXPECT_TRUE(chords.insert(chord).second) << binding.what;
  }
  EXPECT_EQ(commands.size(), size_t(Command::Help) + 1);
  EXPECT_EQ(help_of(Command::Play), "Play or pause (Space)");
}

TEST(Keys, AreThoseOfVideoCompareAndTevOrNamedHere) {
  std::set<ImGuiKeyChord> named;
  const auto look_at = [&](const Key& key) {
    EXPECT_TRUE(named.insert(key.chord).second) << key.there;
    EXPECT_EQ(command_of(key.chord), key.command) << key.program << ": " << key.there;
  };
  for (const auto& key : kShared) look_at(key);
  for (const auto& key : kOwn) look_at(key);
  for (const auto& binding : bindings())
    for (const auto chord : binding.chords) EXPECT_EQ(named.count(chord), 1u) << binding.what;
}

}  // namespace
}  // namespace sagelab::ui
