// SPDX-License-Identifier: Apache-2.0
// How fast this machine's CPU multiplies, for a first guess of how long a run takes.
#pragma once

namespace sagelab::gui {

// Seconds that a floating point operation of a model takes on the CPU in fp32, about: from a matrix product
// of some milliseconds, and what share of its speed a whole model reaches.
double seconds_per_flop();

}  // namespace sagelab::gui
