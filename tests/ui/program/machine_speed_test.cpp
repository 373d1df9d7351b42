// SPDX-License-Identifier: Apache-2.0
// How long a run will take, from runs that were made and from the machine's speed.
#include "app/gui/tasks/machine_speed.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "app/gui/tasks/speeds.h"

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

Speeds::Run run_with(const std::string& attention, double denoise) {
  return {.model = "m",
          .device = "cpu",
          .dtype = "fp32",
          .attention = attention,
          .emulated = false,
          .flops = 1e9,
          .pixels = 100,
          .denoise = denoise,
          .beside = 1,
          .target = {at::kCPU, at::kFloat},
          .width = 64};
}

TEST(Speeds, AnotherBackendIsGuessedByTheLatestButNotByACheck) {
  Speeds speeds;
  speeds.add(run_with("sdpa", 10));
  speeds.add(run_with("schedule(steps=0:check(sdpa,reference),else:sdpa)", 15));
  speeds.add(run_with("check(sdpa,reference)", 20));
  const auto other = speeds.guess(run_with("reference", 0));
  EXPECT_TRUE(other.rough);
  EXPECT_DOUBLE_EQ(other.seconds, 11);
  EXPECT_DOUBLE_EQ(other.denoise, 10);
  const auto checked = speeds.guess(run_with("check(sdpa,reference)", 0));
  EXPECT_FALSE(checked.rough);
  EXPECT_DOUBLE_EQ(checked.seconds, 21);
}

TEST(Speeds, WithoutARunTheMachineTellsOfTheStepsAlone) {
  const auto guess = Speeds().guess(run_with("sdpa", 0));
  EXPECT_TRUE(guess.rough);
  EXPECT_GT(guess.seconds, 0);
  EXPECT_EQ(guess.denoise, guess.seconds);
}

}  // namespace
}  // namespace sagelab::gui
