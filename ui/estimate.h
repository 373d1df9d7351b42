// SPDX-License-Identifier: Apache-2.0
// What the request under edit would take.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

namespace sagelab::ui {

struct Estimate {
  bool pending = true;      // the request changed since
  std::string error, hint;  // why it cannot run; empty: it can
  bool other_size = false;  // it could with the nearest size or number of frames
  double seconds = NAN;     // NaN: nothing tells
  double denoise = NAN;     // of those, what its steps take
  bool rough = true;        // from this machine's speed in general, not from runs of this model
  int64_t peak_bytes = 0, there_bytes = 0;
  int64_t tokens = 0;                          // that attention sees
  int64_t prompt_tokens = 0, token_limit = 0;  // of the prompt
  int steps = 0, layers = 0;                   // as a schedule(...) counts them
  std::string device;                          // "cpu", "cuda:0"
};

}  // namespace sagelab::ui
