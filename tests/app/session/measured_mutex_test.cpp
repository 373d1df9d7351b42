// SPDX-License-Identifier: Apache-2.0
#include "pipelines/measured_mutex.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

namespace sagelab {
namespace {

constexpr auto kLong = std::chrono::milliseconds(50);

TEST(MeasuredMutex, TellsHowLongItsMakerWaited) {
  MeasuredMutex mutex;
  // Again where the maker is put off the processor until the holder is done.
  for (int i = 0; i < 50 && mutex.longest_wait() == 0; ++i) {
    std::atomic<bool> held = false;
    std::jthread holder([&] {
      const std::scoped_lock lock(mutex);
      held = true;
      std::this_thread::sleep_for(kLong);
    });
    while (!held) std::this_thread::yield();
    const std::scoped_lock lock(mutex);
  }
  EXPECT_GT(mutex.longest_wait(), 0);
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
