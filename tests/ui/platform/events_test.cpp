// SPDX-License-Identifier: Apache-2.0
#include "ui/platform/events.h"

#include <gtest/gtest.h>

#include <initializer_list>

namespace sagelab::ui {
namespace {

ImGuiInputEvent move() {
  ImGuiInputEvent event;
  event.Type = ImGuiInputEventType_MousePos;
  return event;
}

ImGuiInputEvent button(bool down) {
  ImGuiInputEvent event;
  event.Type = ImGuiInputEventType_MouseButton;
  event.MouseButton.Button = 0;
  event.MouseButton.Down = down;
  return event;
}

ImGuiInputEvent key(ImGuiKey which, bool down) {
  ImGuiInputEvent event;
  event.Type = ImGuiInputEventType_Key;
  event.Key.Key = which;
  event.Key.Down = down;
  return event;
}

int first_of(std::initializer_list<ImGuiInputEvent> events) {
  ImVector<ImGuiInputEvent> all;
  for (const auto& event : events) all.push_back(event);
  return first_for_later(all);
}

TEST(FirstForLater, AClickWaitsForTheMoveThatCameWithIt) {
  EXPECT_EQ(first_of({move(), button(true), button(false)}), 1);
  EXPECT_EQ(first_of({move(), move(), button(true)}), 2);
  EXPECT_EQ(first_of({button(true), button(false)}), 2) << "nothing moved";
  EXPECT_EQ(first_of({button(true), move(), button(false)}), 3) << "a drag's end is no click";
}

TEST(FirstForLater, AModifierIsHeldUntilItsChordWasSeen) {
  EXPECT_EQ(first_of({key(ImGuiKey_LeftCtrl, true), key(ImGuiMod_Ctrl, true), key(ImGuiKey_Enter, true),
                      key(ImGuiKey_Enter, false), key(ImGuiKey_LeftCtrl, false), key(ImGuiMod_Ctrl, false)}),
            4);
  EXPECT_EQ(first_of({key(ImGuiKey_A, true), key(ImGuiMod_Shift, false)}), 1);
  EXPECT_EQ(first_of({key(ImGuiKey_LeftCtrl, true), key(ImGuiKey_LeftCtrl, false)}), 2) << "no chord";
  EXPECT_EQ(first_of({key(ImGuiKey_A, true), key(ImGuiKey_A, false)}), 2);
  EXPECT_EQ(first_of({}), 0);
}

}  // namespace
}  // namespace sagelab::ui
