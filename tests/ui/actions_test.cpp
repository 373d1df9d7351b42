// SPDX-License-Identifier: Apache-2.0
#include "ui/actions.h"

#include <gtest/gtest.h>

namespace sagelab::ui {
namespace {

TEST(Actions, AreTakenOnce) {
  Actions actions;
  actions.push(action::Generate{});
  actions.push(action::Move{3, -1});
  const auto taken = actions.take();
  ASSERT_EQ(taken.size(), 2u);
  EXPECT_TRUE(std::holds_alternative<action::Generate>(taken[0]));
  EXPECT_EQ(std::get<action::Move>(taken[1]).by, -1);
  EXPECT_TRUE(actions.take().empty());
}

TEST(Actions, OfAFileByItsName) {
  EXPECT_EQ(std::get<action::ImportPrompts>(action_for_file("/a/Prompts.TXT")).file, "/a/Prompts.TXT");
  EXPECT_EQ(std::get<action::ImportPrompts>(action_for_file("b.jsonl")).file, "b.jsonl");
  EXPECT_EQ(std::get<action::RestoreFrom>(action_for_file("/x/y.MP4")).file, "/x/y.MP4");
  EXPECT_EQ(std::get<action::RestoreFrom>(action_for_file("z.json")).file, "z.json");
  EXPECT_EQ(std::get<action::AddModelFolder>(action_for_file("/models/CogVideoX-2b")).path,
            "/models/CogVideoX-2b");
}

TEST(Actions, PastedTextIsAPathWhereItLooksLikeOne) {
  EXPECT_EQ(path_in("/tmp/a b.mp4\n/tmp/c.mp4"), "/tmp/a b.mp4");
  EXPECT_EQ(path_in("file:///tmp/a%20b%C3%A4.mp4\r\n"), "/tmp/a b\xc3\xa4.mp4");
  EXPECT_EQ(path_in("file:///tmp/100%"), "/tmp/100%");
  EXPECT_EQ(path_in("~/x.png"), "~/x.png");
  EXPECT_EQ(path_in("a red ball / a blue ball"), "");
  EXPECT_EQ(path_in(""), "");
}

}  // namespace
}  // namespace sagelab::ui
