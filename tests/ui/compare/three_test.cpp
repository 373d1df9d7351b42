// SPDX-License-Identifier: Apache-2.0
// Three results in the canvas, in every mode.
#include <algorithm>
#include <set>

#include "tests/ui/compare/canvas_fixture.h"

namespace sagelab::ui {
namespace {

class ThreeTest : public CanvasTest {
 protected:
  void SetUp() override {
    state.results.push_back(result_of(3, plain_picture(16, 16, 8, 130), .1));
    state.compared = {1, 2, 3};
    CanvasTest::SetUp();
    move({middle().x + 10, middle().y + 10});
  }
  const Picture* picture(size_t place) const { return state.results[place].frames.picture.get(); }
  std::vector<const Picture*> asked() const {
    std::vector<const Picture*> all;
    for (const auto& [picture, frame] : textures.asked) all.push_back(picture.get());
    return all;
  }
  // A title in each pane, and in each pixel its values, once they have room.
  void expect_labels_and_values() {
    press(ImGuiKey_8);
    EXPECT_GT(canvas.labelled_pixels(), 0);
    press(ImGuiKey_4);
    EXPECT_EQ(canvas.labelled_pixels(), 0);
    EXPECT_EQ(titles(), int(canvas.panes().size()));
    press(ImGuiKey_V);
    EXPECT_EQ(titles(), 0);
    press(ImGuiKey_V);
    press(ImGuiKey_F);
  }

 private:
  // Panes with a label's plate in their corner.
  int titles() const {
    constexpr ImU32 kPlate = IM_COL32(0, 0, 0, 215);
    constexpr double kCorner = 12;
    return int(std::count_if(canvas.panes().begin(), canvas.panes().end(), [&](const Pane& pane) {
      const Box corner{pane.clip.x0, pane.clip.y0, pane.clip.x0 + kCorner, pane.clip.y0 + kCorner};
      const auto lies_here = [&](const ImDrawVert& at) {
        return at.col == kPlate && corner.has({at.pos.x, at.pos.y});
      };
      const auto& lists = ImGui::GetDrawData()->CmdLists;
      return std::any_of(lists.begin(), lists.end(), [&](const ImDrawList* list) {
        return std::any_of(list->VtxBuffer.begin(), list->VtxBuffer.end(), lies_here);
      });
    }));
  }
};

TEST_F(ThreeTest, SplitHasTwoLines) {
  ASSERT_EQ(canvas.panes().size(), 3u);
  for (size_t i = 0; i + 1 < 3; ++i) EXPECT_EQ(canvas.panes()[i].clip.x1, canvas.panes()[i + 1].clip.x0);
  EXPECT_EQ(asked(), (std::vector{picture(0), picture(1), picture(2)}));
  EXPECT_EQ(canvas.under_cursor(),
            "x 8 y 4   A 100 0 0   B 110 0 0   C 130 0 0   B-A +10 +0 +0   C-A +30 +0 +0");
  const double y = middle().y, width = canvas.area().width();
  drag({canvas.area().x0 + canvas.arrangement().lines[1] * width, y}, {canvas.area().x0 + .8 * width, y});
  EXPECT_NEAR(canvas.arrangement().lines[0], .5, .01);
  EXPECT_NEAR(canvas.arrangement().lines[1], .8, .01);
  expect_labels_and_values();
}

TEST_F(ThreeTest, TilesAreThree) {
  press(ImGuiKey_T);
  ASSERT_EQ(canvas.panes().size(), 3u);
  for (size_t i = 0; i + 1 < 3; ++i) EXPECT_LT(canvas.panes()[i].clip.y1, canvas.panes()[i + 1].clip.y0);
  EXPECT_EQ(asked(), (std::vector{picture(0), picture(1), picture(2)}));
  for (const auto& pane : canvas.panes()) {
    move({pane.clip.middle().x + 3, pane.clip.middle().y + 3});
    EXPECT_EQ(canvas.under_cursor(),
              "x 8 y 4   A 100 0 0   B 110 0 0   C 130 0 0   B-A +10 +0 +0   C-A +30 +0 +0");
  }
  expect_labels_and_values();
}

TEST_F(ThreeTest, BlinkShowsEachInTurn) {
  press(ImGuiKey_B);
  std::set<const Picture*> shown;
  for (int i = 0; i < 120 && shown.size() < 3; ++i) {  // of a sixtieth second each
    frame();
    ASSERT_EQ(canvas.panes().size(), 1u);
    shown.insert(asked().at(0));
  }
  EXPECT_EQ(shown, (std::set{picture(0), picture(1), picture(2)}));
  expect_labels_and_values();
}

TEST_F(ThreeTest, DifferencesAreTwo) {
  press(ImGuiKey_0);
  canvas.wait_idle();
  frame();
  ASSERT_EQ(canvas.panes().size(), 2u);
  ASSERT_EQ(textures.asked.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(canvas.panes()[i].shown, int(i) + 1);
    EXPECT_EQ(canvas.panes()[i].against, 0);
    const auto expected = difference_picture({state.results[i + 1].frames.picture, 0},
                                             {state.results[0].frames.picture, 0}, canvas.look());
    EXPECT_EQ(textures.asked[i].first->pixels, expected.pixels);
  }
  EXPECT_NE(textures.asked[0].first->pixels, textures.asked[1].first->pixels);
  expect_labels_and_values();
}

TEST_F(ThreeTest, EachStandsAlone) {
  for (const auto& [key, place] : {std::pair{ImGuiKey_1, 0u}, {ImGuiKey_2, 1u}, {ImGuiKey_3, 2u}}) {
    press(key);
    EXPECT_EQ(canvas.panes().size(), 1u);
    EXPECT_EQ(asked(), std::vector{picture(place)});
  }
}

}  // namespace
}  // namespace sagelab::ui
