// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "tests/ui/driver/scenes/scenes.h"
#include "ui/look/icons.h"

namespace sagelab::gui {
namespace {

namespace icon = ui::icon;

void policies(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  IM_CHECK(until(c, [&] { return !d.state().policy.cells.empty() && !d.state().estimate.pending; }));
  c->ItemOpen("//Attention/Policy: layers and steps");
  c->Yield(2);
  c->ItemClick("//Attention/grid");
  c->Yield(2);
  const auto dots = [&] {
    int painted = 0;
    for (const auto& column : d.state().policy.cells)
      painted += int(std::count(column.begin(), column.end(), "sage2"));
    return painted;
  };
  IM_CHECK_EQ(dots(), 1);
  // A drag paints all that it crosses; the number of a layer paints its row.
  const auto grid = c->ItemInfo("//Attention/grid").RectFull;
  c->MouseMoveToPos({grid.GetCenter().x, grid.Max.y - 4});
  c->MouseDown(0);
  c->MouseMoveToPos({grid.Max.x - 4, grid.Max.y - 4});
  c->MouseUp(0);
  IM_CHECK_EQ(dots(), 3);
  c->MouseMoveToPos({grid.Min.x + 4, grid.Max.y - 4});
  c->MouseClick(0);
  IM_CHECK_EQ(dots(), 1 + int(d.state().policy.columns.size()));
  take_shot(c, "9-policy");
  c->ItemClick("//Attention/Use this policy");
  c->Yield(2);
  IM_CHECK(d.state().request.attention.starts_with("schedule("));
  IM_CHECK(until(c, [&] { return !d.state().estimate.pending; }));
  IM_CHECK_STR_EQ(d.state().estimate.error.c_str(), "");
  c->ItemClose("//Attention/Policy: layers and steps");
  c->ItemClick("//Attention/sdpa/###use");
}

void closes(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  c->ItemClick("//Prompt/###generate");
  IM_CHECK(until(c, [&] { return d.state().running() != nullptr; }));
  click_menu(c, "File/Close");
  c->Yield(2);
  IM_CHECK_EQ(int(d.state().dialogs.size()), 1);
  take_shot(c, "10-closing-while-busy");
  c->ItemClick("//$FOCUSED/Keep open");
  c->Yield(2);
  IM_CHECK(d.state().dialogs.empty() && !d.state().closing);
  c->ItemClick(queue_button(icon::kStop, "cancel").c_str());
  IM_CHECK(until(c, [&] { return !d.state().busy(); }));
}

void looks(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  struct Size {
    int width, height;
  };
  for (const auto& [width, height] : {Size{800, 600}, Size{3840, 2160}, Size{1366, 768}}) {
    d.window.resize(width, height);
    IM_CHECK(until(
        c, [&] { return int(ImGui::GetIO().DisplaySize.x) == width; }, 10));
    c->Yield(3);
    take_shot(c, fmt::format("11-{}x{}", width, height));
    const float pictures = c->WindowInfo("//Compare").Window->Size.x;
    IM_CHECK_GT(pictures, (width == 3840 ? .75f : .45f) * float(width));  // panels are as wide as their text
  }
  click_menu(c, "View/Light");
  c->Yield(2);
  take_shot(c, "12-light");
  click_menu(c, "View/Dark");
  click_menu(c, "View/Size/150 %");
  c->Yield(2);
  take_shot(c, "13-large");
  click_menu(c, "View/Size/100 %");
  click_menu(c, "View/Put the panels back");
  c->Yield(3);
  IM_CHECK(c->WindowInfo("//Prompt").Window != nullptr);
}

}  // namespace

std::span<const Scene> setting_scenes() {
  static constexpr Scene kScenes[] = {{"policies", policies}, {"closes", closes}, {"looks", looks}};
  return kScenes;
}

}  // namespace sagelab::gui
