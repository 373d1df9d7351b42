// SPDX-License-Identifier: Apache-2.0
// A Program over a family of no weights, with a state folder of its own; no window.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <future>
#include <thread>

#include "app/gui/program.h"
#include "tests/app/fake_family.h"

namespace sagelab::gui {

class ProgramTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder = std::filesystem::temp_directory_path() /
             ("sagelab_ui_" + std::to_string(::getpid()) + "_" + info->name());
    std::filesystem::create_directories(folder);
    start();
  }
  void TearDown() override {
    program.reset();
    std::filesystem::remove_all(folder);
  }

  // kept: the folder of the state.
  void start(const std::string& kept = "state") {
    program.reset();
    program = std::make_unique<Program>(gui::Setup{.folder = folder / kept,
                                                   .bundled_model = {},
                                                   .find_family = [this](const auto& model) -> const Family& {
                                                     if (model.string().find("missing") != std::string::npos)
                                                       throw Error("there is no folder " + model.string(),
                                                                   "look again");
                                                     return family;
                                                   }});
  }
  // Chooses the model, with a prompt.
  void choose(int steps = 3) {
    act(ui::action::AddModelFolder{"fake"});
    until([&] { return state().model() && state().request.model == "fake" && !state().estimate.pending; });
    auto request = state().request;
    request.prompt = "a test", request.steps = steps, request.attention = "sdpa";
    act(ui::action::Edit{request});
    until([&] { return !state().estimate.pending; });
  }
  ui::State& state() { return program->state(); }
  template <typename T>
  void act(T action) {
    program->execute({action});
  }
  void until(const std::function<bool()>& holds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    for (program->update(); !holds(); program->update()) {
      ASSERT_LT(std::chrono::steady_clock::now(), end) << "waited in vain";
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  void until_idle() {
    until([&] { return !state().busy() && state().tasks.empty(); });
    program->wait_idle();
    program->update();
  }

  std::shared_ptr<testing::FakeHooks> hooks = std::make_shared<testing::FakeHooks>();
  Family family = testing::fake_family(hooks);
  std::filesystem::path folder;
  std::unique_ptr<Program> program;
};

}  // namespace sagelab::gui
