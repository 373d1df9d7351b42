// SPDX-License-Identifier: Apache-2.0
// One result, or the preview of a run, played in a loop.
#pragma once

#include "ui/state.h"
#include "ui/texture.h"

namespace sagelab::ui {

class Player {
 public:
  void draw(const State& state, Textures& textures);
  // Seconds until the next frame; negative: it stands.
  double next_frame_after() const { return wait_; }

 private:
  bool plays_ = true;
  double wait_ = -1;
  int frame_ = 0;
  double since_ = 0;  // State::now at which frame 0 would have been shown
};

}  // namespace sagelab::ui
