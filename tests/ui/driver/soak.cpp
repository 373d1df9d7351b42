// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>

#include "tests/ui/driver/driver.h"

namespace sagelab::gui {
namespace {

constexpr int kRuns = 200, kWarm = 20, kAtOnce = 10, kSteps = 7;
constexpr double kMostGrowth = .05;

int64_t median_memory(const ui::State& state, size_t last) {
  std::vector<int64_t> all;
  const auto& memory = state.memory;
  for (size_t i = memory.size() > last ? memory.size() - last : 0; i < memory.size(); ++i)
    all.push_back(memory[i].resident);
  std::sort(all.begin(), all.end());
  return all.empty() ? 0 : all[all.size() / 2];
}

// Short runs one after the other, switched at every step, their results removed as a person would in time.
void soaks(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  IM_CHECK(until(c, [&] { return d.state().model() && d.state().estimate.tokens > 0; }));
  auto request = d.state().request;
  request.steps = kSteps, request.num_frames = 1, request.width = request.height = 64;
  d.program.execute({ui::action::Edit{request}});
  IM_CHECK(until(c, [&] { return !d.state().estimate.pending; }));
  IM_CHECK_STR_EQ(d.state().estimate.error.c_str(), "");
  int64_t warm = 0;
  int switched = 0, took = 0;
  for (int done = 0; done < kRuns; done += kAtOnce) {
    for (int i = 0; i < kAtOnce; ++i) d.program.execute({ui::action::Generate{}});
    size_t steps = 0;
    const bool ended = until(
        c,
        [&] {
          const auto* job = d.state().running();
          if (job && job->step_times.size() != steps) {
            steps = job->step_times.size();
            d.program.execute({ui::action::SetAttention{++switched % 2 ? "sage2" : "sdpa(math)"}});
          }
          return !d.state().busy();
        },
        600);
    IM_CHECK(ended);
    IM_CHECK_EQ(int(d.state().results.size()), kAtOnce);
    for (const auto& job : d.state().jobs) took += int(job.switches.size());
    while (!d.state().jobs.empty()) d.program.execute({ui::action::Remove{d.state().jobs.back().id}});
    if (done + kAtOnce == kWarm) warm = median_memory(d.state(), 5);
  }
  const auto end = median_memory(d.state(), 5);
  std::printf(
      "%d runs, %d switches asked for, %d took effect, resident %.1f MB after %d runs, %.1f MB at the end\n",
      kRuns, switched, took, double(warm) / 1e6, kWarm, double(end) / 1e6);
  // A step is seen when the next has begun already: what is asked for then is for the one after that.
  IM_CHECK_GE(took, kRuns * (kSteps - 3));
  IM_CHECK_LT(double(end), double(warm) * (1 + kMostGrowth));
  IM_CHECK(d.state().dialogs.empty());
}

}  // namespace

void add_soak(Driver& driver) {
  auto* test = IM_REGISTER_TEST(driver.engine, "window", "soaks");
  test->UserData = &driver;
  test->TestFunc = soaks;
}

}  // namespace sagelab::gui
