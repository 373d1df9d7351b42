// SPDX-License-Identifier: Apache-2.0
// driver OUT [--soak | --timing]: exit 0 where every scene held. XDG_STATE_HOME is not touched: the state
// lies in OUT.
#include <cstdio>
#include <fstream>

#include "app/commands/places.h"
#include "app/failure.h"
#include "app/media/png.h"
#include "tests/ui/driver/driver.h"

namespace sagelab::gui {
namespace {

void write_shot(Driver& driver) {
  if (driver.shot.empty()) return;
  auto& seen = driver.seen;
  seen.pixels = driver.window.pixels(seen.width, seen.height);
  std::ofstream file(driver.out / (driver.shot + ".png"), std::ios::binary);
  file << media::encode_png(seen.pixels, seen.width, seen.height, {});
  driver.shot.clear();
}

// What was logged of a scene that failed.
void print_failures(ImGuiTestEngine* engine) {
  ImVector<ImGuiTest*> tests;
  ImGuiTestEngine_GetTestList(engine, &tests);
  for (const auto* test : tests) {
    const bool good = test->Output.Status == ImGuiTestStatus_Success;
    std::printf("[%s] %s (%.1f s)\n", good ? "  OK  " : "FAILED", test->Name.c_str(),
                double(test->Output.EndTime - test->Output.StartTime) / 1e6);
    if (!good) std::printf("%s\n", test->Output.Log.Buffer.c_str());
  }
}

void (*scenes_of(const std::string& flag))(Driver&) {
  if (flag.empty()) return add_scenes;
  if (flag == "--soak") return add_soak;
  return flag == "--timing" ? add_timing : nullptr;
}

int drive(const std::filesystem::path& out, void (*add)(Driver&)) {
  // Of an earlier run; what else is there is written over.
  for (const auto* made : {"state", "layout.ini"}) std::filesystem::remove_all(out / made);
  std::filesystem::create_directories(out);
  ui::Window window({.width = 1366, .height = 768, .layout = (out / "layout.ini").string()});
  std::printf("drawn by %s\n", window.renderer().c_str());
  auto* engine = ImGuiTestEngine_CreateContext();
  int failed = 0;
  {
    Program program({.folder = out / "state", .bundled_model = bundled_model(), .wake = ui::Window::wake});
    Driver driver{window, program, out, {}, {}, {}, engine};
    auto& io = ImGuiTestEngine_GetIO(engine);
    io.ConfigRunSpeed = ImGuiTestRunSpeed_Fast;
    io.ConfigWatchdogWarning = io.ConfigWatchdogKillTest = 1200;
    io.ConfigSavedSettings = false;
    io.ConfigVerboseLevelOnError = ImGuiTestVerboseLevel_Debug;
    add(driver);
    ImGuiTestEngine_Start(engine, ImGui::GetCurrentContext());
    ImGuiTestEngine_QueueTests(engine, ImGuiTestGroup_Tests);
    LoopHooks hooks;
    hooks.always_draws = [&] { return driver.awake.load(); };
    hooks.before_swap = [&] { write_shot(driver); };
    hooks.after_frame = [&](const FrameTime& time) {
      if (driver.first_shown == 0) driver.first_shown = process_age();
      auto own = time;
      // There the scenes have their turn, in a thread of their own.
      own.parts[size_t(Part::Finish)].clock = own.parts[size_t(Part::Finish)].processor;
      driver.times.add(own);
      ImGuiTestEngine_PostSwap(engine);
      if (const auto error = window.gl_error()) driver.gl_errors.push_back(error);
      if (ImGuiTestEngine_IsTestQueueEmpty(engine) && !program.state().closing)
        program.execute({ui::action::CloseAnyway{}});
    };
    const auto times = run(window, program, hooks);
    std::printf("%s\n", times.text().c_str());
    ImGuiTestEngineResultSummary summary;
    ImGuiTestEngine_GetResultSummary(engine, &summary);
    failed = summary.CountTested - summary.CountSuccess + int(driver.gl_errors.size());
    if (summary.CountTested == 0) failed = 1;
    for (const auto error : driver.gl_errors) std::printf("GL error 0x%x\n", error);
    print_failures(engine);
    std::printf("%d of %d scenes held\n", summary.CountSuccess, summary.CountTested);
    ImGuiTestEngine_Stop(engine);
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace sagelab::gui

int main(int argc, char** argv) {
  const auto add = argc == 2 || argc == 3 ? sagelab::gui::scenes_of(argc == 3 ? argv[2] : "") : nullptr;
  if (!add) {
    std::fprintf(stderr, "driver OUT [--soak | --timing]\n");
    return 2;
  }
  try {
    return sagelab::gui::drive(argv[1], add);
  } catch (const sagelab::ui::WindowError& e) {
    std::fprintf(stderr, "%s; %s\n", e.what(), e.hint.c_str());
    return 1;
  }
}
