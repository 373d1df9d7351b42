// SPDX-License-Identifier: Apache-2.0
// What a person does with the window, in the order in which scenes go on from each other.
#pragma once

#include <imgui_te_context.h>

#include <span>
#include <string>

#include "tests/ui/driver/driver.h"

namespace sagelab::gui {

struct Scene {
  const char* name;
  void (*play)(ImGuiTestContext*);
};
std::span<const Scene> making_scenes();     // from the start to results
std::span<const Scene> comparing_scenes();  // of two results
std::span<const Scene> file_scenes();       // out of the window and into it
std::span<const Scene> model_scenes();      // of every other family
std::span<const Scene> setting_scenes();    // attention by layers, looks, sizes, closing

// "//Queue/**/X##pause" of an icon and a name.
std::string queue_button(const char* icon, const char* id);
// A button in the row of a job.
void click_in_row(ImGuiTestContext* context, ui::Id job, const std::string& label);
// The job goes, and what it made.
void remove_job(ImGuiTestContext* context, ui::Id job);
// An item of the main menu: "File/Close".
void click_menu(ImGuiTestContext* context, const char* item);
// The window's own file dialog, once it is open, gets a path. false: it did not open, or did not take it.
bool type_path(ImGuiTestContext* context, const std::string& path);
// What the desktop's file dialog, which driver stands in for, says when it is opened next.
void answer_dialog(const Driver& driver, const std::string& path);
// An edit of the request, as the prompt panel would make it; waits for its estimate.
void edit(ImGuiTestContext* context, const Request& request);
// The pixels of a window (RGB, row by row), as they are drawn next.
std::string pixels_of(ImGuiTestContext* context, const char* window);

}  // namespace sagelab::gui
