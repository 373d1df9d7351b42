// SPDX-License-Identifier: Apache-2.0
// Model, prompt and parameters of the request under edit, what it would take, and the button that makes it.
// Here and in other panels: actions outlive the panel, since a file dialog may answer frames later.
#pragma once

#include <string>

#include "ui/actions.h"
#include "ui/platform/file_dialog.h"

namespace sagelab::ui {

class PromptPanel {
 public:
  void draw(const State& state, Actions& actions, FileDialog& files);

 private:
  void draw_model(const State& state, Actions& actions, FileDialog& files);
  bool draw_texts(const State& state, Request& request);
  void draw_presets(const State& state, Actions& actions);
  void draw_estimate(const State& state, Actions& actions);
  void draw_buttons(const State& state, Actions& actions);
  void draw_pair(const State& state, Actions& actions);
  std::string a_, b_;    // specs of "Compare"
  double clicked_ = -1;  // State::now of the latest Generate
};

}  // namespace sagelab::ui
