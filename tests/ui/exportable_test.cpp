// SPDX-License-Identifier: Apache-2.0
#include "ui/panels/exportable.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sagelab::ui {
namespace {

using Kind = action::Export::Kind;
using ::testing::HasSubstr;

Result result(Id id, Id repeats = 0) {
  Result made;
  made.id = id, made.repeats = repeats, made.title = "result " + std::to_string(id);
  auto picture = std::make_shared<Picture>();
  picture->frames = 2, picture->width = 4, picture->height = 3;
  made.frames.picture = picture;
  made.frames.request.prompt = "a ball", made.frames.request.steps = 8, made.frames.request.seed = 5;
  return made;
}

State two_results() {
  State state;
  state.results = {result(1), result(2), result(3, 1)};
  state.results[1].frames.request.attention = "sage2";
  state.compared = {1, 2, 0};
  return state;
}

TEST(Exportable, TwoRunsOfTheSameSettingsAndTheFirstOneTwice) {
  auto state = two_results();
  EXPECT_EQ(finished_in_canvas(state), (std::vector<Id>{1, 2}));
  for (const auto kind : {Kind::Mp4, Kind::Png, Kind::SideBySide, Kind::Report})
    EXPECT_EQ(export_problem(state, kind, {1, 2}), "");
  state.results.pop_back();
  EXPECT_THAT(export_problem(state, Kind::Report, {1, 2}), HasSubstr("A was not made twice"));
  EXPECT_EQ(export_problem(state, Kind::SideBySide, {1, 2}), "");
}

TEST(Exportable, OneAloneIsNoComparison) {
  auto state = two_results();
  state.compared = {1, 9, 0};
  EXPECT_EQ(finished_in_canvas(state), std::vector<Id>{1});
  EXPECT_THAT(export_problem(state, Kind::Report, {1}), HasSubstr("two finished results"));
  EXPECT_THAT(export_problem(state, Kind::SideBySide, {1}), HasSubstr("two finished results"));
  EXPECT_EQ(export_problem(state, Kind::Png, {1}), "");
  EXPECT_THAT(export_problem(state, Kind::Png, {}), HasSubstr("nothing"));
  EXPECT_THAT(export_problem(state, Kind::Png, {9}), HasSubstr("nothing"));
}

TEST(Exportable, SettingsThatDifferAreNamed) {
  auto state = two_results();
  state.results[1].frames.request.seed = 6;
  state.results[1].frames.request.options["shift"] = 3.;
  EXPECT_EQ(export_problem(state, Kind::Report, {1, 2}),
            "A and B differ in seed, model options: a report compares runs of the same settings");
  EXPECT_EQ(export_problem(state, Kind::SideBySide, {1, 2}), "") << "pictures of two seeds go side by side";
  auto smaller = std::make_shared<Picture>(*state.results[1].frames.picture);
  smaller->width = 2;
  state.results[1].frames.picture = smaller;
  EXPECT_THAT(export_problem(state, Kind::SideBySide, {1, 2}), HasSubstr("size"));
}

TEST(Exportable, AttentionAndPlacesAreNoSettings) {
  Request a, b;
  b.attention = "sage2", b.attention_at = {"3=sdpa"}, b.output = "x.mp4", b.preview = 1;
  EXPECT_EQ(different_settings(a, b), "");
  b.prompt = "else", b.guidance_scale = 2, b.dtype = "bf16", b.width = 8;
  EXPECT_EQ(different_settings(a, b), "prompt, size, guidance, dtype");
}

}  // namespace
}  // namespace sagelab::ui
