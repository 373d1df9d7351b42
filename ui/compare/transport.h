// SPDX-License-Identifier: Apache-2.0
// Below the pictures: the scrubber, the figures of each frame under it, and what plays.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ui/actions.h"
#include "ui/compare/clips.h"
#include "ui/compare/keys.h"

namespace sagelab::ui {

// Of one clip against the first, by frame.
struct StripRow {
  char letter = 'B', first = 'A';
  const PairQuality* quality = nullptr;
  const PairQuality* floor = nullptr;  // of the first, made again, against itself; or null
};

// A row for each figure that is there, is being worked out, or cannot be.
std::vector<StripRow> strip_rows(const State& state, const std::vector<Clip>& clips);
// "B to A: PSNR 38.2 dB, SSIM 0.9812; A again: equal, 1.0000". The mean over frames; frame >= 0: of that one.
std::string row_text(const StripRow& row, int frame);

struct Transport {
  const State& state;
  const std::vector<Clip>& clips;
  Clock& clock;
  const std::string& readout;
  std::function<void(Command)> apply;
};
// Height that draw_transport takes where the cursor is, in pixels of the screen: controls that have no room
// in a line go on in the next one.
float transport_height(const Transport& transport);
void draw_transport(const Transport& transport);

}  // namespace sagelab::ui
