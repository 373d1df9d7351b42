// SPDX-License-Identifier: Apache-2.0
// The map of errors as one sees it: hover for the numbers, click to put a layer on another backend.
#pragma once

#include <imgui.h>

#include "ui/actions.h"
#include "ui/metrics/heat_map.h"

namespace sagelab::ui {

class ErrorMap {
 public:
  // Of a job that check(...) measured; a line that says how to, where it did not.
  void draw(const State& state, const Job& job, Actions& actions);

  // As last drawn, on the screen; empty where nothing was drawn.
  ImVec2 from() const { return from_; }
  ImVec2 extent() const { return extent_; }
  const HeatMap& map() const { return map_; }

 private:
  void draw_kinds();
  void draw_cells();
  void draw_scale();
  void draw_menu(const State& state, Actions& actions);

  ErrorKind kind_ = ErrorKind::RelativeL1;
  HeatMap map_;
  Id job_ = 0;           // whose map it is
  size_t measured_ = 0;  // of how many measurements
  HeatPlace clicked_;
  ImVec2 from_, extent_;
};

}  // namespace sagelab::ui
