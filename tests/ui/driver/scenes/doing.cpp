// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include "tests/ui/driver/scenes/scenes.h"
#include "ui/look/icons.h"

namespace sagelab::gui {

std::string queue_button(const char* icon, const char* id) {
  return fmt::format("//Queue/**/{}##{}", icon, id);
}

void click_in_row(ImGuiTestContext* context, ui::Id job, const std::string& label) {
  context->SetRef(context->GetID("//Queue/jobs"));
  context->ItemClick(fmt::format("$${}/{}", job, label).c_str());
  context->Yield();
}

void remove_job(ImGuiTestContext* context, ui::Id job) {
  const auto& state = driver_of(context).state();
  const bool asks = state.result(job) || !state.job(job)->latents.empty();
  click_in_row(context, job, fmt::format("{}##remove", ui::icon::kTrash));
  if (!asks) return;
  IM_CHECK(state.job(job) != nullptr);
  context->ItemClick("//$FOCUSED/Delete what it made");
  context->Yield();
}

void click_menu(ImGuiTestContext* context, const char* item) {
  context->SetRef("##MainMenuBar");
  context->MenuClick(item);
  context->Yield(2);
}

bool type_path(ImGuiTestContext* context, const std::string& path) {
  const auto asks = [] { return ImGui::IsPopupOpen("", ImGuiPopupFlags_AnyPopup); };
  if (!until(context, asks, 10)) return false;
  context->Yield(2);
  context->SetRef("//$FOCUSED");
  context->ItemInputValue("##path", path.c_str());  // with Enter, which is OK
  context->Yield(2);
  return !asks();
}

void answer_dialog(const Driver& driver, const std::string& path) {
  std::ofstream(driver.out / "dialog.answer") << path << "\n";
}

void edit(ImGuiTestContext* context, const Request& request) {
  auto& driver = driver_of(context);
  driver.program.execute({ui::action::Edit{request}});
  IM_CHECK(until(context, [&] { return !driver.state().estimate.pending; }));
  IM_CHECK_STR_EQ(driver.state().estimate.error.c_str(), "");
}

std::string pixels_of(ImGuiTestContext* context, const char* window) {
  auto& driver = driver_of(context);
  take_shot(context, "seen");
  const auto rect = context->WindowInfo(window).Window->InnerRect;
  const auto& seen = driver.seen;
  std::string all;
  const int x0 = std::max(int(rect.Min.x), 0), x1 = std::min(int(rect.Max.x), seen.width);
  for (int y = std::max(int(rect.Min.y), 0); y < std::min(int(rect.Max.y), seen.height); ++y) {
    const auto row = seen.pixels.begin() + (ptrdiff_t(y) * seen.width + x0) * 3;
    all.append(row, row + ptrdiff_t(std::max(x1 - x0, 0)) * 3);
  }
  return all;
}

}  // namespace sagelab::gui
