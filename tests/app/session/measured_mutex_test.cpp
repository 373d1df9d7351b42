// SPDX-License-Identifier: Apache-2.0
#include "pipelines/measured_mutex.h"

#include <gtest/gtest.h>

#include <atomic>

namespace sagelab {
namespace {

constexpr auto kLong = std::chrono::milliseconds(50);
constexpr double kMostOfIt = .04;

TEST(MeasuredMutex, TellsHowLongItsMakerWaited) {
  MeasuredMutex mutex;
  std::atomic<bool> held = false;
  std::jthread holder([&] {
    const std::scoped_lock lock(mutex);
    held = true;
    std::this_thread::sleep_for(kLong);
  });
  while (!held) std::this_thread::yield();
  EXPECT_EQ(mutex.longest_wait(), 0);
  const std::scoped_lock lock(mutex);
  EXPECT_GT(mutex.longest_wait(), kMostOfIt);
}

TEST(MeasuredMutex, AndNotHowLongOthersWaitedForIt) {
  MeasuredMutex mutex;
  std::unique_lock lock(mutex);
  std::jthread other([&] { const std::scoped_lock waits(mutex); });
  std::this_thread::sleep_for(kLong);
  lock.unlock();
  other.join();
  EXPECT_EQ(mutex.longest_wait(), 0);
}

}  // namespace
}  // namespace sagelab
