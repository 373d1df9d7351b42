// SPDX-License-Identifier: Apache-2.0
// The pictures of a comparison: panels next to each other with their labels burnt in, and a sheet of frames.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "pipelines/frames.h"

namespace sagelab {

struct VideoPanel {
  std::string title, figures, note;  // a line each; ASCII
  std::shared_ptr<const Picture> picture;
};

// A power of two from 1 to 64, the largest at which 999 of 1000 differing values stay below 256.
int gain_for(const Picture& picture, const Picture& reference);
// |picture - reference| x gain, at most 255.
Picture difference(const Picture& picture, const Picture& reference, int gain);

// Every panel's frames in a grid, small ones enlarged by a whole factor; the last one's note is frame and
// time.
Picture side_by_side(const std::vector<VideoPanel>& panels, int columns, double fps);
// A row of frames for each panel, from the first to the last. One frame.
Picture contact_sheet(const std::vector<VideoPanel>& panels, const std::string& title);

}  // namespace sagelab
