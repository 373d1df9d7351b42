// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "app/batch/store/lock.h"
#include "app/commands/commands.h"
#include "app/commands/places.h"
#include "app/failure.h"
#include "app/gui/loop.h"

namespace sagelab {
namespace {

std::string bundled_or_none() {
  try {
    return bundled_model();
  } catch (const Error&) {
    return "";  // the window has no demo then; everything else works
  }
}

}  // namespace

int run_gui(bool says_times) {
  const auto folder = gui::state_folder();
  try {
    ui::Window window({.layout = gui::Store(folder).layout()});
    std::unique_ptr<batch::FileLock> lock;
    std::filesystem::path kept = folder;
    try {
      lock = std::make_unique<batch::FileLock>(folder / "lock", batch::FileLock::Mode::Refuse);
    } catch (const Error&) {
      kept.clear();  // another window keeps its state there
    }
    gui::Program program({.folder = kept, .bundled_model = bundled_or_none(), .wake = ui::Window::wake});
    if (!lock)
      program.say({ui::Dialog::Kind::Info, "A second window", "Another window is open.",
                   "What is made here is gone when this window closes, unless you export it."});
    const auto times = gui::run(window, program);
    if (says_times) std::fprintf(stderr, "%s\n", times.text().c_str());
    return kDone;
  } catch (const ui::WindowError& e) {
    throw Error(e.what(), e.hint);
  }
}

bool has_display() {
  const auto set = [](const char* name) {
    const char* value = std::getenv(name);
    return value && *value;
  };
  return set("DISPLAY") || set("WAYLAND_DISPLAY");
}

void add_gui(CLI::App& app, int& exit_code) {
  auto* command =
      app.add_subcommand("gui", "the desktop app; also without any command, where there is a display");
  auto says_times = std::make_shared<bool>(false);
  command->add_flag("--times", *says_times, "at the end, on stderr: what frames took");
  command->callback([says_times, &exit_code] { exit_code = guarded([&] { return run_gui(*says_times); }); });
}

}  // namespace sagelab
