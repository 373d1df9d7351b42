// SPDX-License-Identifier: Apache-2.0
// What the canvas compares, out of the state: results, and jobs by their preview.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ui/compare/maths/clock.h"
#include "ui/compare/maths/pixels.h"
#include "ui/state.h"

namespace sagelab::ui {

struct Clip {
  Id id = 0;
  char letter = 'A';  // its place in State::compared
  std::shared_ptr<const Picture> picture;
  ClipTime time;
  bool making = false;  // a preview of a job that runs
};

// Those of State::compared that there is a picture of. A preview of fewer frames lasts as long as the result
// will.
std::vector<Clip> clips_of(const State& state);
// "B: waits for its turn", for each that has no picture yet.
std::vector<std::string> missing_of(const State& state);
// Of State::compared, what jobs have yet to make, with or without a preview.
std::vector<Id> unfinished_of(const State& state);
// The clip that Clock follows.
ClipTime leading(const std::vector<Clip>& clips);
// The largest width and the largest height: the extent over which each clip is stretched.
Extent extent_of(const std::vector<Clip>& clips);
// The frame of a clip at a time.
Shot shot_of(const Clip& clip, double seconds);

// "A  sage2, seed 7"; "B  sage2, step 3 of 30" while it is being made.
std::string title_of(const State& state, const Clip& clip);
// "120 ms a step, 1.50x as fast as A", of the median step. No comparison of speed where either ran emulated
// (it says so instead), or where the two differ in more than attention and prompt. Empty where no step was
// timed.
std::string speed_text(const State& state, const Clip& clip, const Clip& first);
// "x 3 y 4   A 1 2 3   B 2 2 2   B-A +1 +0 -1"; empty outside of the pictures.
std::string readout(const std::vector<Clip>& clips, double seconds, Point at);
// As long as a readout of these clips can be.
std::string widest_readout(const std::vector<Clip>& clips);

// Figures of clip b against clip a that nobody asked for yet and that both are there for: what to measure.
std::vector<std::pair<Id, Id>> to_measure(const State& state, const std::vector<Clip>& clips);

}  // namespace sagelab::ui
