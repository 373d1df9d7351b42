// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/canvas.h"

#include <imgui_internal.h>

#include <cmath>

#include "tests/ui/compare/canvas_fixture.h"

namespace sagelab::ui {
namespace {

TEST_F(CanvasTest, AsksOnceForFigures) {
  ASSERT_EQ(first.size(), 1u);
  const auto& measure = std::get<action::Measure>(first[0]);
  EXPECT_EQ(measure.a, 2u);
  EXPECT_EQ(measure.b, 1u);
  EXPECT_TRUE(frame().empty());
}

TEST_F(CanvasTest, FillsTheWindowAndFits) {
  EXPECT_GT(canvas.area().width(), 750);
  EXPECT_GT(canvas.area().height(), 450);
  EXPECT_LT(canvas.area().y1, 600);
  EXPECT_EQ(canvas.view().scale(), std::floor(canvas.area().width() / 16));
  ASSERT_EQ(canvas.panes().size(), 2u);
  EXPECT_LT(canvas.redraw_after(), 0);
}

TEST_F(CanvasTest, ButtonsThatDoNotFitGoOnInTheNextLine) {
  const double one_line = canvas.area().y0;
  size.x = 170;  // as in a window of 800 x 600
  frame(), frame();
  EXPECT_GE(canvas.area().y0, one_line + 2 * double(ImGui::GetFrameHeight()));
  EXPECT_GT(canvas.area().height(), 300);
}

TEST_F(CanvasTest, EverythingFitsIntoASmallWindow) {
  state.results[0].frames.picture = plain_picture(16, 1280, 720, 100);
  for (const float width : {170.f, 250.f, 400.f, 800.f}) {
    size = {width, 500};
    frame(), frame();
    move(middle());
    const auto* window = ImGui::FindWindowByName("Compare");
    EXPECT_LE(window->ContentSize.x, width) << width;
    EXPECT_LE(window->ContentSize.y, 500) << width;
    EXPECT_FALSE(canvas.under_cursor().empty()) << width;
    move({-50, -50});
  }
}

TEST_F(CanvasTest, KeysChooseTheMode) {
  move(middle());
  press(ImGuiKey_0);
  EXPECT_EQ(canvas.arrangement().mode, Mode::Difference);
  canvas.wait_idle();
  frame();
  ASSERT_EQ(textures.asked.size(), 1u);
  EXPECT_NE(textures.asked[0].first, state.results[1].frames.picture);
  press(ImGuiKey_T);
  EXPECT_EQ(canvas.panes().size(), 2u);
  EXPECT_LT(canvas.panes()[0].clip.y1, canvas.panes()[1].clip.y0);  // wide pictures: one above the other
  press(ImGuiKey_B);
  EXPECT_EQ(canvas.arrangement().mode, Mode::Flicker);
  EXPECT_GT(canvas.redraw_after(), 0);
  EXPECT_LE(canvas.redraw_after(), 1 / canvas.arrangement().flicker_hz);
  press(ImGuiKey_2);
  EXPECT_EQ(canvas.arrangement().mode, Mode::Single);
  EXPECT_EQ(textures.asked.at(0).first, state.results[1].frames.picture);
  press(ImGuiKey_2);
  EXPECT_EQ(canvas.arrangement().mode, Mode::Flicker);
  press(ImGuiKey_3);  // there is no third
  EXPECT_EQ(canvas.arrangement().mode, Mode::Flicker);
  press(ImGuiKey_G);
  EXPECT_EQ(canvas.arrangement().mode, Mode::Split);
}

TEST_F(CanvasTest, KeysMoveTheClockOfAll) {
  move(middle());
  press(ImGuiKey_D);
  EXPECT_EQ(canvas.clock().frame(), 1);
  EXPECT_EQ(textures.asked.at(0).second, 1);
  EXPECT_EQ(textures.asked.at(1).second, 1);
  press(ImGuiKey_RightArrow);
  EXPECT_EQ(canvas.clock().frame(), 9);
  press(ImGuiKey_A);
  EXPECT_EQ(canvas.clock().frame(), 8);
  press(ImGuiKey_LeftArrow);
  EXPECT_EQ(canvas.clock().frame(), 0);
  for (const auto key : {ImGuiKey_Period, ImGuiKey_O}) {
    const bool looped = canvas.clock().loops();
    press(key);
    EXPECT_NE(canvas.clock().loops(), looped);
  }
  press(ImGuiKey_End);
  EXPECT_EQ(canvas.clock().frame(), 15);
  press(ImGuiKey_Home);
  EXPECT_EQ(canvas.clock().frame(), 0);
  press(ImGuiKey_L);
  EXPECT_EQ(canvas.clock().speed(), 2);
  press(ImGuiKey_Space);
  EXPECT_TRUE(canvas.clock().playing());
  EXPECT_GT(canvas.redraw_after(), 1. / 60);  // not before the next of 8 frames a second
  for (int i = 0; i < 10; ++i) frame();       // of a sixtieth second each, at twice the speed
  EXPECT_GE(canvas.clock().frame(), 2);
  press(ImGuiKey_Space);
  EXPECT_LT(canvas.redraw_after(), 0);
}

TEST_F(CanvasTest, TheDifferenceGoesBackToWhatWasBefore) {
  move(middle());
  const auto mode_after = [&](ImGuiKey key) { return press(key), canvas.arrangement().mode; };
  press(ImGuiKey_T);
  EXPECT_EQ(mode_after(ImGuiKey_0), Mode::Difference);
  EXPECT_EQ(mode_after(ImGuiKey_1), Mode::Single);
  EXPECT_EQ(mode_after(ImGuiKey_1), Mode::Difference);
  EXPECT_EQ(mode_after(ImGuiKey_0), Mode::SideBySide);
  press(ImGuiKey_1);
  EXPECT_EQ(mode_after(ImGuiKey_0), Mode::Difference);
  EXPECT_EQ(mode_after(ImGuiKey_0), Mode::SideBySide);
}

TEST_F(CanvasTest, KeysZoomToMultiplesOfWhatFits) {
  state.results[0].frames.picture = plain_picture(16, 160, 80, 100);
  frame();
  move(middle());
  const double fits = canvas.view().scale();
  const auto scale_after = [&](ImGuiKey key) { return press(key), canvas.view().scale() / fits; };
  EXPECT_DOUBLE_EQ(scale_after(ImGuiKey_5), .5);
  EXPECT_DOUBLE_EQ(scale_after(ImGuiKey_7), 2);
  EXPECT_DOUBLE_EQ(scale_after(ImGuiKey_8), 4);
  EXPECT_DOUBLE_EQ(scale_after(ImGuiKey_9), 8);
  EXPECT_FALSE(canvas.view().fits());
  const auto held = canvas.view().to_picture(middle(), canvas.panes()[0].space);
  EXPECT_NEAR(held.x, 80, 1e-6);
  EXPECT_DOUBLE_EQ(scale_after(ImGuiKey_6), 1);
  EXPECT_TRUE(canvas.view().fits());
}

TEST_F(CanvasTest, KeysAreForWhereTheMouseIs) {
  move({-50, -50});
  press(ImGuiKey_D);  // the window has the focus
  EXPECT_EQ(canvas.clock().frame(), 1);
  focused = false;
  frame();
  press(ImGuiKey_D);
  EXPECT_EQ(canvas.clock().frame(), 1);
  move(middle());
  press(ImGuiKey_D);
  EXPECT_EQ(canvas.clock().frame(), 2);
}

TEST_F(CanvasTest, TheWheelZoomsAboutTheCursor) {
  const Point at{std::floor(middle().x) - 120, std::floor(middle().y) - 60};
  move(at);
  const double scale = canvas.view().scale();
  const auto before = canvas.view().to_picture(at, canvas.panes()[0].space);
  ImGui::GetIO().AddMouseWheelEvent(0, 2);
  frame(), frame();
  EXPECT_NEAR(canvas.view().scale(), scale * 2, 1e-6);
  const auto after = canvas.view().to_picture(at, canvas.panes()[0].space);
  EXPECT_NEAR(after.x, before.x, 1e-3);
  EXPECT_NEAR(after.y, before.y, 1e-3);
  press(ImGuiKey_F);
  EXPECT_EQ(canvas.view().scale(), scale);
}

TEST_F(CanvasTest, ADragMovesTheLineOrThePicture) {
  const double quarter = canvas.area().x0 + canvas.area().width() / 4, y = middle().y;
  drag(middle(), {quarter, y});
  EXPECT_NEAR(canvas.arrangement().lines[0], .25, .01);
  EXPECT_TRUE(canvas.view().fits());
  const auto before = canvas.view().to_screen({8, 4}, canvas.panes()[0].space);
  drag({quarter + 100, y}, {quarter + 130, y + 20});
  const auto after = canvas.view().to_screen({8, 4}, canvas.panes()[0].space);
  EXPECT_NEAR(after.x - before.x, 30, 1e-3);
  EXPECT_NEAR(after.y - before.y, 20, 1e-3);
  EXPECT_NEAR(canvas.arrangement().lines[0], .25, .01);
}

TEST_F(CanvasTest, PixelsHaveTheirValues) {
  EXPECT_GT(canvas.labelled_pixels(), 0);  // 16 x 8 fits at far more than 40 pixels a pixel
  move({middle().x + 10, middle().y + 10});
  EXPECT_EQ(canvas.under_cursor(), "x 8 y 4   A 100 0 0   B 110 0 0   B-A +10 +0 +0");
  press(ImGuiKey_4);
  EXPECT_EQ(canvas.view().scale(), 1);
  EXPECT_EQ(canvas.labelled_pixels(), 0);
  move({-50, -50});
  EXPECT_EQ(canvas.under_cursor(), "");
}

TEST_F(CanvasTest, ADifferenceIsMadeOncePerFrameShown) {
  const auto made = [&] {
    canvas.wait_idle();
    frame();
    return canvas.differences_made();
  };
  move(middle());
  press(ImGuiKey_0);
  EXPECT_EQ(made(), 1);
  EXPECT_EQ(textures.asked.at(0).first->pixels,
            difference_picture({state.results[1].frames.picture, 0}, {state.results[0].frames.picture, 0},
                               canvas.look())
                .pixels);
  for (int i = 0; i < 5; ++i) frame();
  EXPECT_EQ(made(), 1);
  press(ImGuiKey_D);
  EXPECT_EQ(made(), 2);
  press(ImGuiKey_E);
  EXPECT_EQ(canvas.look().gain, 16);
  EXPECT_EQ(made(), 3);
  press(ImGuiKey_E, ImGuiMod_Shift);
  EXPECT_EQ(canvas.look().gain, 8);
  EXPECT_EQ(made(), 3);
}

TEST_F(CanvasTest, TheScrubberSeeks) {
  const double width = canvas.area().width();
  const Point at{canvas.area().x0 + width * 10.5 / 16, canvas.area().y1 + 12};
  move(at);
  ImGui::GetIO().AddMouseButtonEvent(0, true);
  frame(), frame();
  EXPECT_EQ(canvas.clock().frame(), 10);
  move({canvas.area().x0 + width * 3.5 / 16, at.y});
  EXPECT_EQ(canvas.clock().frame(), 3);
  ImGui::GetIO().AddMouseButtonEvent(0, false);
  frame();
}

TEST_F(CanvasTest, TheWorstFrameIsAKeyAway) {
  state.qualities = {{2, 1, false, std::vector<double>(16, 40.), std::vector<double>(16, .9), 0, ""}};
  state.qualities[0].psnr[11] = 21;
  const double before = canvas.area().height();
  frame();
  EXPECT_LT(canvas.area().height(), before);  // the strip takes its room
  move(middle());
  press(ImGuiKey_W);
  EXPECT_EQ(canvas.clock().frame(), 11);
}

TEST_F(CanvasTest, SwapIsAskedFor) {
  move(middle());
  const auto actions = press(ImGuiKey_S);
  ASSERT_EQ(actions.size(), 1u);
  EXPECT_EQ(std::get<action::Compare>(actions[0]).ids, (std::array<Id, 3>{2, 1, 0}));
}

TEST_F(CanvasTest, HelpOpensAndClosesWithItsKeys) {
  move(middle());
  press(ImGuiKey_Slash, ImGuiMod_Shift);
  EXPECT_TRUE(canvas.helps());
  press(ImGuiKey_H);
  EXPECT_FALSE(canvas.helps());
}

TEST_F(CanvasTest, HelpOverTheMouseLeavesTheKeysTheirMeaning) {
  focused = false;
  move(middle());
  press(ImGuiKey_H);
  EXPECT_TRUE(canvas.helps());
  press(ImGuiKey_0);
  EXPECT_EQ(canvas.arrangement().mode, Mode::Difference);
  press(ImGuiKey_H);
  EXPECT_FALSE(canvas.helps());
}

TEST_F(CanvasTest, WhatIsFinishedPlaysOnceUnlessOneStoppedAtAFrameBetween) {
  const auto result = state.results[1];
  const auto finish = [&] {
    Job job;
    job.id = result.id;
    job.status = Job::Status::Running;
    job.preview = result.frames.picture;
    state.jobs = {job};
    state.results.resize(1);
    frame();
    state.jobs.clear();
    state.results.push_back(result);
    frame();
    return canvas.clock().playing();
  };
  EXPECT_FALSE(canvas.clock().playing());
  EXPECT_TRUE(finish());
  press(ImGuiKey_Space);
  press(ImGuiKey_D);
  EXPECT_FALSE(finish());
  for (const auto end : {ImGuiKey_Home, ImGuiKey_End}) {
    press(end);
    EXPECT_TRUE(finish()) << ImGui::GetKeyName(end);
    press(ImGuiKey_Space);
  }
}

TEST_F(CanvasTest, WhatIsFinishedPlaysWithoutAPreviewAndAfterAShorterOne) {
  const auto finish = [&](Id id, int frames) {
    Job job;
    job.id = id;
    job.status = Job::Status::Running;
    state.jobs = {job};
    state.compared = {1, id, 0};
    frame();
    EXPECT_FALSE(canvas.clock().playing()) << id;
    state.jobs.clear();
    state.results.push_back(result_of(id, plain_picture(frames, 16, 8, 100), .3));
    frame();
    EXPECT_TRUE(canvas.clock().playing()) << id;
    EXPECT_EQ(canvas.clock().frame(), 0) << id;
    for (int i = 0; i < 60 * frames / 8 + 10 && canvas.clock().playing(); ++i) frame();
    EXPECT_FALSE(canvas.clock().playing()) << id;
    EXPECT_EQ(canvas.clock().frame(), frames - 1) << id;
  };
  finish(3, 16);
  finish(4, 32);
  finish(5, 64);  // the one before it ran out halfway through this
}

TEST_F(CanvasTest, APictureHasNoTimeToMoveIn) {
  const double with_time = canvas.area().height();
  state.results = {result_of(1, plain_picture(1, 16, 8, 100), .3),
                   result_of(2, plain_picture(1, 16, 8, 110), .2)};
  frame(), frame();
  EXPECT_GT(canvas.area().height(), with_time);
  move(middle());
  EXPECT_NE(canvas.under_cursor(), "");
  state.qualities = {{2, 1, false, {40}, {.9}, 0, ""}};
  frame(), frame();
  EXPECT_LT(canvas.area().height(), with_time);  // figures stay in sight
}

TEST_F(CanvasTest, WithNothingToShowItStillDraws) {
  state = {};
  EXPECT_TRUE(frame().empty());
  EXPECT_TRUE(canvas.panes().empty());
  for (const auto& binding : bindings()) {
    Actions actions;
    canvas.apply(binding.command, state, actions);
    frame();
  }
}

}  // namespace
}  // namespace sagelab::ui
