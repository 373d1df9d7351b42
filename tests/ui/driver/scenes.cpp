// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <fstream>

#include "tests/ui/driver/scenes/scenes.h"

namespace sagelab::gui {
namespace {

// In the place of the desktop's file dialog, whatever this machine has: it says what answer_dialog() left for
// it, and else fails, so that the window asks itself.
void stand_in_for_dialogs(const Driver& driver) {
  const auto folder = std::filesystem::absolute(driver.out / "bin"), program = folder / "zenity";
  const auto answer = std::filesystem::absolute(driver.out / "dialog.answer").string();
  std::filesystem::create_directories(folder);
  std::filesystem::remove(answer);
  std::ofstream(program) << "#!/bin/sh\n[ -f '" + answer + "' ] || exit 5\ncat '" + answer + "'\nrm '" +
                                answer + "'\n";
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  ::setenv("PATH", (folder.string() + ":" + std::getenv("PATH")).c_str(), 1);
  ::setenv("XDG_SESSION_DESKTOP", "gnome", 1);  // before kdialog, where that is there too
}

}  // namespace

void add_scenes(Driver& driver) {
  stand_in_for_dialogs(driver);
  for (const auto scenes :
       {making_scenes(), comparing_scenes(), file_scenes(), model_scenes(), setting_scenes()}) {
    for (const auto& scene : scenes) {
      auto* test = IM_REGISTER_TEST(driver.engine, "window", scene.name);
      test->UserData = &driver;
      test->TestFunc = scene.play;
    }
  }
}

}  // namespace sagelab::gui
