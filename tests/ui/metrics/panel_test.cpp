// SPDX-License-Identifier: Apache-2.0
// The panel without a window: frames are made and thrown away, the mouse is said to be somewhere.
#include "ui/metrics/metrics_panel.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/ui/null_window.h"

namespace sagelab::ui {
namespace {

class Panel : public testing::Test {
 protected:
  // A frame of the window; what was asked for in it.
  std::vector<Action> frame() {
    window.frame();
    return actions.take();
  }
  std::vector<Action> click(float x, float y) {
    window.click(x, y);
    return actions.take();
  }
  // The lower left end of a line of text is looked for by trying: where a click asks for a T.
  template <typename T>
  bool find_click(ImVec2 from, ImVec2 to, T& found) {
    for (float y = from.y; y < to.y; y += 6) {
      for (const auto& action : click(from.x, y)) {
        if (const auto* what = std::get_if<T>(&action)) {
          found = *what;
          return true;
        }
      }
    }
    return false;
  }

  void draw() {
    ImGui::SetNextWindowPos({0, 0});
    ImGui::SetNextWindowSize({400, 1000});
    ImGui::Begin("Metrics", nullptr, ImGuiWindowFlags_NoSavedSettings);
    panel.draw(state, actions);
    ImGui::End();
  }

  State state;
  Actions actions;
  MetricsPanel panel;
  NullWindow window{[this] { draw(); }};
};

State measured_state() {
  State state;
  state.now = 20;
  Job job;
  job.id = 3, job.status = Job::Status::Running, job.attention = "check(sage2,sdpa)", job.steps = 4;
  job.request.device = "cpu";
  job.phases = {{"load", 0, 1, 1, 1}, {"denoise", 1, NAN, 0, 1}};
  job.step_times = {{1, "sdpa"}, {2, "sage2"}};
  job.switches = {{1, "sdpa", "sage2"}};
  for (int step = 0; step < 4; ++step)
    for (int layer = 0; layer < 6; ++layer)
      job.measured.push_back({step, layer, "sage2", "sdpa", .99, .01 * (layer + 1), .1, .2});
  state.jobs = {job};
  state.compared = {3, 0, 0};
  state.memory = {{0, 1000000000, 0}, {1, 2000000000, 500000000}};
  state.backends = {{"sdpa", "", "", false}, {"sage2", "", "", true}, {"sdpa(cudnn)", "", "no GPU", false}};
  return state;
}

TEST_F(Panel, EmptyStateSaysWhatItWillShow) {
  EXPECT_TRUE(frame().empty());
  EXPECT_GT(window.drawn(), 0);
  EXPECT_EQ(panel.errors().extent().x, 0);
}

TEST_F(Panel, TheMapHasAPlaceForEachLayerAndStep) {
  state = measured_state();
  frame(), frame();
  EXPECT_EQ(panel.errors().map().steps, 4);
  EXPECT_EQ(panel.errors().map().layers, 6);
  EXPECT_EQ(panel.errors().extent().y, 6 * 16);
  EXPECT_GT(panel.errors().extent().x, 300);
  state.jobs[0].measured.push_back({4, 0, "sage2", "sdpa", .9, .5, .1, .2});
  frame();
  EXPECT_EQ(panel.errors().map().steps, 5);
}

TEST_F(Panel, AClickOnALayerPutsItOnAnotherBackend) {
  state = measured_state();
  frame(), frame();
  const auto from = panel.errors().from(), extent = panel.errors().extent();
  const ImVec2 at{from.x + extent.x / 8, from.y + extent.y * 4.5f / 6};  // step 0, layer 4
  EXPECT_TRUE(click(at.x, at.y).empty());
  ASSERT_TRUE(ImGui::IsPopupOpen("", ImGuiPopupFlags_AnyPopupId | ImGuiPopupFlags_AnyPopupLevel));
  // The first backend of the menu is the second line in it.
  action::SetAttention chosen;
  ASSERT_TRUE(find_click<action::SetAttention>({at.x + 24, at.y + 24}, {at.x + 24, at.y + 50}, chosen));
  EXPECT_EQ(chosen.spec, "check(schedule(layers=4:sdpa,else:sage2),sdpa)");
}

TEST_F(Panel, TheFloorIsAskedForOnce) {
  Result a, b;
  a.id = 1, b.id = 2;
  state.results = {a, b};
  state.jobs = measured_state().jobs;
  state.compared = {1, 2, 0};
  state.qualities = {{2, 1, false, {30}, {.9}, 0, ""}};
  frame(), frame();
  action::Repeat repeat;
  ASSERT_TRUE(find_click<action::Repeat>({40, 60}, {40, 160}, repeat));
  EXPECT_EQ(repeat.result, 1u);
  Job again;
  again.id = 9, again.repeats = 1;
  state.jobs.push_back(again);
  frame();
  EXPECT_FALSE(find_click<action::Repeat>({40, 90}, {40, 160}, repeat));
}

}  // namespace
}  // namespace sagelab::ui
