// SPDX-License-Identifier: Apache-2.0
#include "app/gui/tasks/machine_speed.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <chrono>

namespace sagelab::gui {

double seconds_per_flop() {
  constexpr int64_t kSide = 384;
  constexpr int kTimes = 16;  // the best: others on the machine only make it slower
  constexpr double kShare = .35;
  using Clock = std::chrono::steady_clock;
  const auto a = at::ones({kSide, kSide}), b = at::ones({kSide, kSide});
  double best = 1e9;
  for (int i = 0; i < kTimes; ++i) {
    const auto start = Clock::now();
    const auto product = at::mm(a, b);
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best / (2. * kSide * kSide * kSide) / kShare;
}

}  // namespace sagelab::gui
