// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "tests/ui/driver/scenes/scenes.h"
#include "ui/look/icons.h"

namespace sagelab::gui {
namespace {

using Status = ui::Job::Status;
namespace icon = ui::icon;

void starts(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  IM_CHECK(until(c, [&] { return d.state().model() && d.state().estimate.tokens > 0; }));
  IM_CHECK_STR_EQ(d.state().model()->problem.c_str(), "");
  IM_CHECK_LT(d.state().now, 30.);
  IM_CHECK(until(c, [&] { return !d.state().estimate.pending; }));
  IM_CHECK(d.state().estimate.seconds > 0 && d.state().estimate.rough);  // nothing ran here yet
  IM_CHECK(c->ItemExists("//Prompt/###generate"));
  const auto& backends = d.state().backends;
  const auto reasons =
      std::count_if(backends.begin(), backends.end(), [](const auto& b) { return !b.reason.empty(); });
  IM_CHECK_GT(int(reasons), 0);  // without a GPU cuDNN's is there, greyed out
  take_shot(c, "1-start");
}

// What was said before anything ran, held to what it then took; alone on the machine they are within a factor
// of 2, and a machine shared with others may slow the run.
void estimates(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  auto request = d.state().request;
  request.steps = 8, request.attention = "sdpa";
  edit(c, request);
  const double said = d.state().estimate.seconds;
  const auto begun = d.state().now;
  c->ItemClick("//Prompt/###generate");
  IM_CHECK(until(c, [&] { return !d.state().results.empty(); }));
  const double took = d.state().now - begun;
  std::printf("estimated %.2f s before the first run, which took %.2f s\n", said, took);
  IM_CHECK_GT(said, took / 8);
  IM_CHECK_LT(said, took * 4);
  IM_CHECK(until(c, [&] { return !d.state().estimate.pending && !d.state().estimate.rough; }));
  std::printf("estimated %.2f s of the same after it\n", d.state().estimate.seconds);
  IM_CHECK_LT(std::abs(d.state().estimate.seconds - took), took / 2);
  remove_job(c, d.state().jobs.back().id);
  IM_CHECK(d.state().jobs.empty() && d.state().results.empty());
}

void edits(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  c->ItemInputValue("//Prompt/**/##steps", 6);
  c->ItemInputValue("//Prompt/**/##seed", 11);
  IM_CHECK_EQ(d.state().request.steps.value_or(0), 6);
  IM_CHECK_EQ(int(d.state().request.seed), 11);
  c->ItemInputValue("//Prompt/**/##width", 130);
  IM_CHECK(until(c, [&] { return !d.state().estimate.pending; }));
  IM_CHECK_STR_NE(d.state().estimate.error.c_str(), "");
  take_shot(c, "2-size-that-does-not-fit");
  c->ItemClick("//Prompt/Take the nearest size");
  IM_CHECK(until(c, [&] { return !d.state().estimate.pending && d.state().estimate.error.empty(); }));
  IM_CHECK_EQ(d.state().request.width.value_or(0), 128);
  c->ItemClick("//Prompt/**/16:9");
  IM_CHECK(until(c, [&] { return !d.state().estimate.pending; }));
  IM_CHECK_GT(d.state().request.width.value_or(0), d.state().request.height.value_or(0));
  IM_CHECK_STR_EQ(d.state().estimate.error.c_str(), "");
  const auto memory = d.state().estimate.peak_bytes;
  c->ItemClick("//Prompt/**/1:1");
  c->ItemInputValue("//Prompt/**/##width", 256);
  c->ItemInputValue("//Prompt/**/##height", 256);
  IM_CHECK(until(c, [&] { return !d.state().estimate.pending && d.state().estimate.peak_bytes > memory; }));
  c->ItemInputValue("//Prompt/**/##width", 128);
  c->ItemInputValue("//Prompt/**/##height", 128);
  IM_CHECK(until(c, [&] { return !d.state().estimate.pending; }));
  const auto tokens = d.state().estimate.prompt_tokens;
  const auto before = d.state().request;
  c->ItemInputValue("//Prompt/**/##prompt", "a pink ring rises under water, and a green ball");
  c->ItemInputValue("//Prompt/**/##negative prompt", "text");
  IM_CHECK(until(c, [&] { return d.state().estimate.prompt_tokens > tokens; }));
  c->Yield(2);
  IM_CHECK(d.state().request.negative_prompt.starts_with("text"));
  edit(c, before);
  IM_CHECK_EQ(d.state().estimate.prompt_tokens, tokens);
  c->ItemClick(fmt::format("//Prompt/**/{}##dice", icon::kDice).c_str());
  c->Yield();
  IM_CHECK_NE(int(d.state().request.seed), 11);
}

void switches(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  const auto before = d.state().request;
  auto request = before;
  request.steps = 24;  // a slow machine, too, is still at them after all that is clicked meanwhile
  edit(c, request);
  c->ItemDoubleClick("//Prompt/###generate");
  c->Yield();
  IM_CHECK_EQ(int(d.state().jobs.size()), 1);  // a double click is one
  IM_CHECK(until(c, [&] { return d.state().jobs[0].step_times.size() >= 2; }));
  IM_CHECK(d.state().jobs[0].preview != nullptr);
  // What cannot run here is grey: a click on it does nothing.
  const auto& backends = d.state().backends;
  const auto grey =
      std::find_if(backends.begin(), backends.end(), [](const auto& b) { return !b.reason.empty(); });
  IM_CHECK(grey != backends.end());
  const auto item = c->ItemInfo(fmt::format("//Attention/{}/###use", grey->spec).c_str());
  IM_CHECK(item.ID != 0 && (item.ItemFlags & ImGuiItemFlags_Disabled));
  c->ItemClick(fmt::format("//Attention/{}/###use", grey->spec).c_str(), 0, ImGuiTestOpFlags_NoError);
  c->Yield(2);
  IM_CHECK_STR_EQ(d.state().jobs[0].attention.c_str(), "sdpa");
  // The next run is another matter.
  c->ItemClick("//Attention/next run");
  c->ItemClick("//Attention/sdpa(math)/###use");
  c->Yield(2);
  IM_CHECK_STR_EQ(d.state().request.attention.c_str(), "sdpa(math)");
  IM_CHECK_STR_EQ(d.state().jobs[0].attention.c_str(), "sdpa");
  c->ItemClick("//Attention/sdpa/###use");
  c->ItemClick("//Attention/###live");
  const int done = int(d.state().jobs[0].step_times.size());
  c->ItemClick("//Attention/sage2/###use");
  c->Yield(2);
  IM_CHECK_STR_EQ(d.state().jobs[0].attention.c_str(), "sage2");
  IM_CHECK(until(c, [&] { return !d.state().jobs[0].switches.empty(); }));
  IM_CHECK_GE(d.state().jobs[0].switches[0].step, done);
  IM_CHECK_LE(d.state().jobs[0].switches[0].step, int(d.state().jobs[0].step_times.size()));
  take_shot(c, "3-switched-while-it-runs");
  IM_CHECK(until(c, [&] { return d.state().jobs[0].status == Status::Done; }));
  IM_CHECK_STR_EQ(d.state().jobs[0].switches[0].to.c_str(), "sage2");
  IM_CHECK(d.state().results.at(0).emulated);
  take_shot(c, "4-done");
  edit(c, before);
}

void cancels(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  c->ItemClick("//Prompt/###generate");
  c->Yield();
  const auto id = d.state().jobs.back().id;
  IM_CHECK(until(c, [&] { return !d.state().job(id)->step_times.empty(); }));
  const auto steps = d.state().job(id)->step_times.size();
  c->ItemClick(queue_button(icon::kStop, "cancel").c_str());
  IM_CHECK(until(c, [&] { return d.state().job(id)->status == Status::Cancelled; }));
  IM_CHECK_LE(d.state().job(id)->step_times.size(), steps + 1);
  IM_CHECK_EQ(int(d.state().dialogs.size()), 0);
}

void retries(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  const auto& jobs = d.state().jobs;
  const auto at =
      std::find_if(jobs.begin(), jobs.end(), [](const auto& j) { return j.status == Status::Cancelled; });
  IM_CHECK(at != jobs.end());
  const auto id = at->id;
  click_in_row(c, id, fmt::format("{}##retry", icon::kRetry));
  IM_CHECK(until(c, [&] { return d.state().result(id) != nullptr; }));
  IM_CHECK(d.state().job(id)->status == Status::Done);
  remove_job(c, id);
  IM_CHECK(!d.state().job(id) && !d.state().result(id));
}

void reorders(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  c->ItemClick(queue_button(icon::kPause, "pause").c_str());
  std::vector<ui::Id> ids;
  for (int i = 0; i < 3; ++i) {
    const double now = d.state().now;
    IM_CHECK(until(c, [&] { return d.state().now > now + .5; }));  // sooner it is one click
    c->ItemClick("//Prompt/###generate");
    c->Yield();
    ids.push_back(d.state().jobs.back().id);
  }
  const auto order = [&] {
    std::vector<ui::Id> waiting;
    for (const auto& job : d.state().jobs)
      if (job.status == Status::Waiting) waiting.push_back(job.id);
    return waiting;
  };
  IM_CHECK(order() == ids);
  click_in_row(c, ids[2], fmt::format("{}##up", icon::kUp));
  click_in_row(c, ids[2], fmt::format("{}##up", icon::kUp));
  click_in_row(c, ids[0], fmt::format("{}##down", icon::kDown));
  IM_CHECK(order() == (std::vector<ui::Id>{ids[2], ids[1], ids[0]}));
  take_shot(c, "4-queue-reordered");
  click_in_row(c, ids[1], fmt::format("{}##cancel", icon::kStop));
  IM_CHECK(order() == (std::vector<ui::Id>{ids[2], ids[0]}));
  for (const auto id : {ids[2], ids[0]}) click_in_row(c, id, fmt::format("{}##cancel", icon::kStop));
  for (const auto id : ids) remove_job(c, id);
  IM_CHECK(order().empty());
  c->ItemClick(queue_button(icon::kPlay, "pause").c_str());
  c->Yield();
  IM_CHECK(!d.state().paused);
}

// Errors come while the run goes on, and a click on a layer puts it on another backend.
void checks(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  auto request = d.state().request;
  request.steps = 5, request.attention = "check(sage2,sdpa)";
  edit(c, request);
  c->ItemClick("//Prompt/###generate");
  c->Yield();
  const auto id = d.state().jobs.back().id;
  IM_CHECK(until(c, [&] { return !d.state().job(id)->measured.empty(); }));
  const auto layers = d.state().estimate.layers;
  IM_CHECK(d.state().job(id)->status == Status::Running);
  IM_CHECK_LT(int(d.state().job(id)->step_times.size()), 5);
  c->WindowFocus("//Metrics");
  c->Yield(2);
  take_shot(c, "4-errors-while-it-runs");
  c->ItemClick("//Metrics/##error-map");
  c->Yield(2);
  take_shot(c, "4-a-layer-on-another-backend");
  c->ItemClick("//$FOCUSED/sdpa");
  c->Yield(2);
  const auto now = d.state().job(id)->attention;
  IM_CHECK(now.starts_with("check(schedule(layers="));
  IM_CHECK(until(c, [&] { return d.state().job(id)->status == Status::Done; }));
  const auto& measured = d.state().job(id)->measured;
  IM_CHECK_EQ(int(measured.size()), 5 * layers);
  const auto& last = measured[measured.size() - size_t(layers) + size_t(layers / 2)];
  IM_CHECK_STR_EQ(last.a.c_str(), last.b.c_str());  // sdpa against sdpa
  IM_CHECK_EQ(last.relative_l1, 0.);
  take_shot(c, "4-errors");
  c->WindowFocus("//Attention");
  c->ItemClick("//Attention/sdpa/###use");
  c->ItemClick("//Attention/measure errors against sdpa");
  c->Yield();
  IM_CHECK_STR_EQ(d.state().request.attention.c_str(), "sdpa");
}

}  // namespace

std::span<const Scene> making_scenes() {
  static constexpr Scene kScenes[] = {{"starts", starts},     {"estimates", estimates}, {"edits", edits},
                                      {"switches", switches}, {"cancels", cancels},     {"retries", retries},
                                      {"reorders", reorders}, {"checks", checks}};
  return kScenes;
}

}  // namespace sagelab::gui
