// SPDX-License-Identifier: Apache-2.0
#include "ui/platform/paths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/ui/platform/temp_tree.h"

namespace sagelab::ui {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(Paths, TildeIsHome) {
  ::setenv("HOME", "/home/me", 1);
  EXPECT_EQ(without_tilde("~/x.png"), "/home/me/x.png");
  EXPECT_EQ(without_tilde("~"), "/home/me");
  EXPECT_EQ(without_tilde("~other/x"), "~other/x");
  EXPECT_EQ(without_tilde("/a/~/b"), "/a/~/b");
}

TEST(Paths, NamesGoOnAsTyped) {
  const TempTree tree;
  for (const auto* name : {"beta/inner", "b.mp4", "bb.png", "c.txt", ".hidden", "alpha/x"}) tree.file(name);
  EXPECT_THAT(names_after(tree.at(""), PathKind::Open, ""),
              ElementsAre("alpha/", "beta/", "b.mp4", "bb.png", "c.txt"));
  EXPECT_THAT(names_after(tree.at("b"), PathKind::Open, ""), ElementsAre("beta/", "b.mp4", "bb.png"));
  EXPECT_THAT(names_after(tree.at("b"), PathKind::Open, "*.mp4 *.txt"), ElementsAre("beta/", "b.mp4"));
  EXPECT_THAT(names_after(tree.at(""), PathKind::Folder, ""), ElementsAre("alpha/", "beta/"));
  EXPECT_THAT(names_after(tree.at("beta/"), PathKind::Open, "*"), ElementsAre("inner"));
  EXPECT_THAT(names_after(tree.at("."), PathKind::Save, ""), ElementsAre(".hidden"));
  EXPECT_THAT(names_after(tree.at("none/"), PathKind::Open, ""), IsEmpty());
}

TEST(Paths, ANameTakesThePlaceOfWhatWasTypedLast) {
  EXPECT_EQ(with_name("/a/b", "beta/"), "/a/beta/");
  EXPECT_EQ(with_name("/a/", "c.txt"), "/a/c.txt");
  EXPECT_EQ(with_name("b", "beta/"), "beta/");
}

TEST(Paths, WhatCannotBeTakenSaysWhy) {
  const TempTree tree;
  tree.file("there.txt");
  EXPECT_EQ(path_problem(tree.at("there.txt"), PathKind::Open), "");
  EXPECT_THAT(path_problem(tree.at("none.txt"), PathKind::Open), HasSubstr("no such file"));
  EXPECT_THAT(path_problem(tree.at(""), PathKind::Open), HasSubstr("is a folder"));
  EXPECT_EQ(path_problem(tree.at(""), PathKind::Folder), "");
  EXPECT_THAT(path_problem(tree.at("there.txt"), PathKind::Folder), HasSubstr("no such folder"));
  EXPECT_EQ(path_problem(tree.at("new.mp4"), PathKind::Save), "");
  EXPECT_EQ(path_problem("new.mp4", PathKind::Save), "") << "into the current folder";
  EXPECT_THAT(path_problem(tree.at("none/new.mp4"), PathKind::Save), HasSubstr("no folder"));
  EXPECT_NE(path_problem("", PathKind::Save), "");
}

}  // namespace
}  // namespace sagelab::ui
