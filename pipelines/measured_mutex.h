// SPDX-License-Identifier: Apache-2.0
// A mutex that tells how long it was waited for.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>

namespace sagelab {

class MeasuredMutex {
 public:
  void lock() {
    if (mutex_.try_lock()) return;
    const auto start = std::chrono::steady_clock::now();
    mutex_.lock();
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - start;
    longest_wait_ = std::max(longest_wait_.load(), waited.count());  // by its holder alone
  }
  bool try_lock() { return mutex_.try_lock(); }
  void unlock() { mutex_.unlock(); }
  // Seconds, of whoever waited for it.
  double longest_wait() const { return longest_wait_; }

 private:
  std::mutex mutex_;
  std::atomic<double> longest_wait_ = 0;
};

}  // namespace sagelab
