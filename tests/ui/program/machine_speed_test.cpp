// SPDX-License-Identifier: Apache-2.0
#include "app/gui/tasks/machine_speed.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace sagelab::gui {
namespace {

// Of one thread alone, the best of many.
double product_seconds_per_flop(int64_t width) {
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  constexpr int64_t kRows = 128;
  const auto a = at::ones({kRows, width}), b = at::ones({width, width});
  auto out = at::empty({kRows, width});
  double best = 1e9;
  for (int i = 0; i < 200; ++i) {
    const auto begun = std::chrono::steady_clock::now();
    at::mm_out(out, a, b);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
  }
  at::set_num_threads(threads);
  return best / (2. * double(kRows) * double(width) * double(width));
}

// Others that take the processors meanwhile do not make it another machine.
TEST(MachineSpeed, IsAShareOfWhatAllThreadsReachAlone) {
  constexpr int64_t kWidth = 384;
  const double product = product_seconds_per_flop(kWidth);
  std::atomic<bool> over = false;
  std::vector<std::jthread> others;
  for (int i = 0; i < 2 * at::get_num_threads(); ++i)
    others.emplace_back([&] {
      while (!over) continue;
    });
  for (int again = 0; again < 5; ++again) {
    double asked = 0;
    std::thread([&] { asked = MachineSpeed().seconds_per_flop({at::kCPU, at::kFloat}, kWidth); }).join();
    const double share = product / asked / at::get_num_threads();
    std::printf("%.1f GFLOP/s of a thread's products, a run is foretold at %.1f\n", 1e-9 / product,
                1e-9 / asked);
    EXPECT_GT(share, .35 / 3);
    EXPECT_LT(share, .35 * 1.5);
  }
  over = true;
}

}  // namespace
}  // namespace sagelab::gui
