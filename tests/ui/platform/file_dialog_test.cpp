// SPDX-License-Identifier: Apache-2.0
// With programs of our own in the places of zenity and kdialog.
#include "ui/platform/file_dialog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <imgui_internal.h>
#include <portable_file_dialogs.h>

#include <chrono>
#include <cstdlib>
#include <iterator>
#include <optional>
#include <thread>

#include "tests/ui/null_window.h"
#include "tests/ui/platform/temp_tree.h"

namespace sagelab::ui {
namespace {

using ::testing::HasSubstr;
using Kind = FileDialog::Kind;

class Dialogs : public testing::Test {
 protected:
  // Nothing but `which`, which looks for them, and what scripts need.
  void SetUp() override {
    std::filesystem::create_directory(tree.at("bin"));
    for (const std::string tool : {"which", "sh", "sleep"}) {
      const bool in_usr = std::filesystem::exists("/usr/bin/" + tool);
      std::filesystem::create_symlink((in_usr ? "/usr/bin/" : "/bin/") + tool, tree.at("bin/" + tool));
    }
    ::setenv("PATH", tree.at("bin").c_str(), 1);
  }
  void TearDown() override { ::setenv("PATH", path.c_str(), 1); }

  void ask(Kind kind, const std::string& suggested = {}, const std::vector<std::string>& filters = {}) {
    pfd::settings::rescan();
    dialog->open({kind, "A title", suggested, filters, [this](const std::string& file) { chosen = file; }});
  }
  void until_closed() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    for (window.frame(); dialog->is_open() && !dialog->is_own(); window.frame()) {
      ASSERT_LT(std::chrono::steady_clock::now(), end) << "it stays open";
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  std::string arguments() const {
    std::ifstream in(tree.at("arguments"));
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::string noting(const std::string& script) const {
    return "printf '%s\\n' \"$@\" > " + tree.at("arguments") + "\n" + script;
  }

  const std::string path = std::getenv("PATH");
  TempTree tree;
  std::optional<FileDialog> dialog{std::in_place};
  std::optional<std::string> chosen;
  NullWindow window{[this] {
    if (dialog) dialog->draw();
  }};
};

TEST_F(Dialogs, ZenityIsAskedForAFileAndItsAnswerTaken) {
  tree.program("bin/zenity", noting("echo /videos/a.mp4"));
  ask(Kind::Open, "", {"Videos", "*.mp4 *.png"});
  EXPECT_FALSE(dialog->is_own());
  until_closed();
  EXPECT_EQ(chosen, "/videos/a.mp4");
  EXPECT_THAT(arguments(), HasSubstr("--file-selection"));
  EXPECT_THAT(arguments(), HasSubstr("A title"));
  EXPECT_THAT(arguments(), HasSubstr("Videos|*.mp4 *.png"));
  EXPECT_THAT(arguments(), ::testing::Not(HasSubstr("--save")));
}

TEST_F(Dialogs, ZenityIsAskedForWhereToSaveAndForFolders) {
  tree.program("bin/zenity", noting("echo /videos/b.mp4"));
  ask(Kind::Save, "b.mp4");
  until_closed();
  EXPECT_EQ(chosen, "/videos/b.mp4");
  EXPECT_THAT(arguments(), HasSubstr("--save"));
  EXPECT_THAT(arguments(), HasSubstr("--confirm-overwrite"));
  EXPECT_THAT(arguments(), HasSubstr("/b.mp4")) << "a name gets a folder";
  ask(Kind::Save, "c.mp4");
  until_closed();
  EXPECT_THAT(arguments(), HasSubstr("--filename=/videos/c.mp4")) << "the folder of the file before";
  tree.program("bin/zenity", noting("echo /models/"));
  ask(Kind::Folder);
  until_closed();
  EXPECT_EQ(chosen, "/models");
  EXPECT_THAT(arguments(), HasSubstr("--directory"));
}

TEST_F(Dialogs, KdialogIsAskedWhereThereIsNoZenity) {
  tree.program("bin/kdialog", noting("echo /videos/k.mp4"));
  ask(Kind::Save, "/videos/x.mp4");
  until_closed();
  EXPECT_EQ(chosen, "/videos/k.mp4");
  EXPECT_THAT(arguments(), HasSubstr("--getsavefilename"));
}

TEST_F(Dialogs, CancelledThereIsNothingChosen) {
  tree.program("bin/zenity", "sleep .7\nexit 1");
  ask(Kind::Open);
  until_closed();
  EXPECT_FALSE(dialog->is_open());
  EXPECT_FALSE(chosen);
}

// zenity ends with 1 without a display also: before anybody can have seen it.
TEST_F(Dialogs, OneThatFailsIsFollowedByTheWindowsOwn) {
  for (const auto* script : {"exit 1", "sleep .7\nexit 5"}) {
    tree.program("bin/zenity", script);
    dialog.emplace();
    ask(Kind::Open);
    until_closed();
    EXPECT_TRUE(dialog->is_own()) << script;
    window.frame(), window.frame();
    EXPECT_TRUE(ImGui::IsPopupOpen("", ImGuiPopupFlags_AnyPopup)) << script;
    EXPECT_FALSE(chosen);
    window.press(ImGuiKey_Escape);
    window.frame();
    EXPECT_FALSE(dialog->is_open()) << script;
  }
}

TEST_F(Dialogs, OneThatIsOpenGoesWithTheWindow) {
  tree.program("bin/zenity", "exec sleep 60");
  ask(Kind::Open);
  window.frame();
  const auto start = std::chrono::steady_clock::now();
  dialog.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  EXPECT_FALSE(chosen);
}

TEST_F(Dialogs, WithoutAProgramTheWindowAsksItself) {
  tree.file("videos/a.mp4");
  ask(Kind::Open, tree.at("videos/"));
  EXPECT_TRUE(dialog->is_own());
  window.frame(), window.frame(), window.frame();
  ASSERT_TRUE(ImGui::IsPopupOpen("", ImGuiPopupFlags_AnyPopup));
  window.press(ImGuiKey_Enter);
  EXPECT_TRUE(dialog->is_open()) << "a folder is no file";
  window.frame(), window.frame();
  window.press(ImGuiKey_End);
  for (const char c : std::string("a.mp4")) ImGui::GetIO().AddInputCharacter(c);
  window.frame(), window.frame(), window.frame();
  window.press(ImGuiKey_Enter);
  EXPECT_FALSE(dialog->is_open());
  EXPECT_EQ(chosen, tree.at("videos/a.mp4"));
}

}  // namespace
}  // namespace sagelab::ui
