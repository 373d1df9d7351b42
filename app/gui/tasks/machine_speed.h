// SPDX-License-Identifier: Apache-2.0
// How fast a device computes, for a first guess of how long a run of a model takes that never ran here.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

#include "pipelines/run.h"

namespace sagelab::gui {

class MachineSpeed {
 public:
  // Seconds that a floating point operation takes in a transformer of this width on this device, in this
  // dtype: from matrix products of some ten milliseconds, made once for each, and what share of their speed
  // whole models reach. NaN where the device cannot do them now.
  double seconds_per_flop(const Target& target, int64_t width);

 private:
  std::mutex mutex_;
  std::map<std::tuple<std::string, at::ScalarType, int64_t>, double> known_;  // by device, dtype, width
};

}  // namespace sagelab::gui
