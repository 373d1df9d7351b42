// SPDX-License-Identifier: Apache-2.0
// A grid of layers x ranges of steps, painted with backends: a schedule(...) without typing one.
#pragma once

#include <string>

#include "ui/actions.h"

namespace sagelab::ui {

class PolicyEditor {
 public:
  void draw(const State& state, Actions& actions);

 private:
  void draw_brushes(const State& state);
  void draw_ranges(const State& state, Actions& actions);
  void draw_grid(const State& state, Actions& actions);
  std::string brush_;
};

}  // namespace sagelab::ui
