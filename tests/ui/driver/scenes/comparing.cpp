// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>

#include "tests/ui/driver/scenes/scenes.h"
#include "ui/compare/keys.h"

namespace sagelab::gui {
namespace {

void compares(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  c->ItemInputValue("//Prompt/**/##steps", 4);
  c->ItemClick("//Prompt/###compare");
  c->Yield();
  c->ItemClick("//$FOCUSED/Make both");
  c->Yield();
  const auto a = d.state().compared[0], b = d.state().compared[1];
  IM_CHECK(a != 0 && b != 0);
  IM_CHECK(until(c, [&] { return d.state().result(a) && d.state().result(b) && !d.state().busy(); }));
  IM_CHECK(until(c, [&] { return d.state().floor(a) && !d.state().floor(a)->pending; }));
  IM_CHECK_EQ(d.state().floor(a)->identical_frames, d.state().result(a)->frames.picture->frames);
  IM_CHECK(d.state().result(a)->frames.picture->pixels != d.state().result(b)->frames.picture->pixels);
  take_shot(c, "5-compared");
}

// By a drag along the scrubber, and by keys.
void scrubs(ImGuiTestContext* c) {
  c->WindowFocus("//Compare");
  c->KeyPress(ImGuiKey_G);
  c->KeyPress(ImGuiKey_Home);
  const auto first = pixels_of(c, "//Compare");
  c->KeyPress(ImGuiKey_End);
  const auto last = pixels_of(c, "//Compare");
  IM_CHECK(!first.empty() && first != last);
  const auto bar = c->ItemInfo("//Compare/##scrub").RectFull;
  const float y = bar.Min.y + 6;
  c->MouseMoveToPos({bar.Max.x - 3, y});
  c->MouseDown(0);
  c->MouseMoveToPos({bar.Min.x + 2, y});
  c->MouseUp(0);
  c->WindowFocus("//Compare");
  IM_CHECK(pixels_of(c, "//Compare") == first);
  c->MouseMoveToPos({bar.GetCenter().x, y});
  c->MouseClick(0);
  c->WindowFocus("//Compare");
  const auto middle = pixels_of(c, "//Compare");
  IM_CHECK(middle != first && middle != last);
  c->KeyPress(ImGuiKey_D);
  IM_CHECK(pixels_of(c, "//Compare") != middle);
  c->KeyPress(ImGuiKey_A);
  IM_CHECK(pixels_of(c, "//Compare") == middle);
  take_shot(c, "5-scrubbed");
}

// Split, tiles, each alone, blinking, and the difference: all show something else.
void modes(ImGuiTestContext* c) {
  c->WindowFocus("//Compare");
  c->KeyPress(ImGuiKey_G);
  std::set<std::string> seen;
  seen.insert(pixels_of(c, "//Compare"));
  c->ItemClick("//Compare/Tiles");
  c->WindowFocus("//Compare");
  seen.insert(pixels_of(c, "//Compare"));
  take_shot(c, "5-tiles");
  c->ItemClick("//Compare/Diff");
  c->WindowFocus("//Compare");
  seen.insert(pixels_of(c, "//Compare"));
  c->KeyPress(ImGuiKey_E);
  seen.insert(pixels_of(c, "//Compare"));
  take_shot(c, "5-difference");
  c->KeyPress(ImGuiKey_1);
  seen.insert(pixels_of(c, "//Compare"));
  c->KeyPress(ImGuiKey_2);
  seen.insert(pixels_of(c, "//Compare"));
  IM_CHECK_EQ(seen.size(), size_t(6));
  c->ItemClick("//Compare/Blink");
  c->WindowFocus("//Compare");
  std::set<std::string> blinks;
  IM_CHECK(until(
      c, [&] { return blinks.insert(pixels_of(c, "//Compare")), blinks.size() >= 2; }, 10));
  c->KeyPress(ImGuiKey_G);
}

// Until the same key again, whatever else is pressed.
bool stays(ui::Command command) {
  return command == ui::Command::Swap || command == ui::Command::Loop || command == ui::Command::Labels;
}

// Each key of the help, as it says.
void keys(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  const auto compared = d.state().compared;
  c->WindowFocus("//Compare");
  c->KeyPress(ImGuiKey_H);
  c->Yield(2);
  const auto helps = [&] {
    const auto* window = c->GetWindowByRef("//##canvas-help");
    return window && window->Active;
  };
  IM_CHECK(helps());
  take_shot(c, "5-help");
  for (const auto& binding : ui::bindings()) {
    for (const auto chord : binding.chords) {
      c->WindowFocus("//Compare");
      c->KeyPress(chord);
      c->Yield();
      if (binding.command == ui::Command::Swap)
        IM_CHECK(d.state().compared[0] == compared[1] && d.state().compared[1] == compared[0]);
      if (stays(binding.command)) c->KeyPress(chord), c->Yield();
    }
  }
  IM_CHECK(d.state().dialogs.empty() && d.state().compared == compared);
  // Three keys open and close it: it is closed now, being open before.
  c->Yield(2);
  IM_CHECK(!helps());
  c->WindowFocus("//Compare");
  for (const auto key : {ImGuiKey_R, ImGuiKey_G, ImGuiKey_Home}) c->KeyPress(key);
}

}  // namespace

std::span<const Scene> comparing_scenes() {
  static constexpr Scene kScenes[] = {
      {"compares", compares}, {"scrubs", scrubs}, {"modes", modes}, {"keys", keys}};
  return kScenes;
}

}  // namespace sagelab::gui
