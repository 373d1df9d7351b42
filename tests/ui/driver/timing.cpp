// SPDX-License-Identifier: Apache-2.0
// What the window takes of its own thread at 1366x768 and at 4K, at rest and while it generates. Judged is
// processor time, which others on the machine do not change; what the clock says is only printed.
#include <fmt/format.h>
#include <time.h>

#include <chrono>
#include <cstdio>
#include <thread>

#include "tests/ui/driver/driver.h"

namespace sagelab::gui {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kMostOwn = 4e-3;  // seconds a frame

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Of all threads.
double processor_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return double(time.tv_sec) + double(time.tv_nsec) * 1e-9;
}

// Frames for so many seconds, as many as can be drawn; how many a second.
double draw_for(ImGuiTestContext* c, double seconds) {
  const auto start = Clock::now();
  int frames = 0;
  while (since(start) < seconds && !c->IsError()) c->Yield(), ++frames;
  return frames / since(start);
}

void resize(ImGuiTestContext* c, int width, int height) {
  driver_of(c).window.resize(width, height);
  IM_CHECK(until(
      c, [&] { return int(ImGui::GetIO().DisplaySize.x) == width; }, 10));
  c->Yield(5);
}

void judge(ImGuiTestContext* c, const char* what) {
  auto& times = driver_of(c).times;
  std::printf("%s: %s\n", what, times.text().c_str());
  IM_CHECK_LT(times.longest_own(), kMostOwn);
  times = {};
}

void starts(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  IM_CHECK(until(c, [&] { return d.state().model() && d.state().estimate.tokens > 0; }));
  std::printf("first shown %.2f s after the process began\n", d.first_shown);
  judge(c, "start");
}

void generates(ImGuiTestContext* c, int width, int height) {
  auto& d = driver_of(c);
  resize(c, width, height);
  d.times = {};
  c->ItemClick("//Prompt/###generate");
  IM_CHECK(until(c, [&] { return d.state().running() && !d.state().running()->step_times.empty(); }));
  constexpr double kSeconds = 6;
  const double rate = draw_for(c, kSeconds);
  const auto* job = d.state().running();
  IM_CHECK(job != nullptr);
  std::printf("%dx%d while generating: %.1f frames a second, %zu steps\n", width, height, rate,
              job->step_times.size());
  judge(c, "while generating");
  d.program.execute({ui::action::Cancel{job->id}});
  IM_CHECK(until(c, [&] { return !d.state().busy(); }));
}

void rests(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  c->MouseMoveToPos({5, 5});
  c->Yield(10);
  constexpr double kSeconds = 5;
  const auto start = Clock::now();
  const double before = processor_seconds();
  d.times = {};
  std::jthread alarm([&] {
    std::this_thread::sleep_for(std::chrono::duration<double>(kSeconds));
    d.awake = true;
    ui::Window::wake();
  });
  d.awake = false;
  while (!d.awake && !c->IsError()) c->Yield();
  const double used = processor_seconds() - before, share = used / since(start);
  std::printf("at rest: %.2f %% of a core, %d frames in %.1f s\n", share * 100, d.times.frames(),
              since(start));
  IM_CHECK_LT(share, .02);
}

}  // namespace

void add_timing(Driver& driver) {
  struct Scene {
    const char* name;
    void (*play)(ImGuiTestContext*);
  };
  constexpr Scene kScenes[] = {
      {"starts", starts},
      {"generates at 1366x768", [](ImGuiTestContext* c) { generates(c, 1366, 768); }},
      {"generates at 3840x2160", [](ImGuiTestContext* c) { generates(c, 3840, 2160); }},
      {"rests", rests},
  };
  for (const auto& scene : kScenes) {
    auto* test = IM_REGISTER_TEST(driver.engine, "timing", scene.name);
    test->UserData = &driver;
    test->TestFunc = scene.play;
  }
}

}  // namespace sagelab::gui
