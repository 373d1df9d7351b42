// SPDX-License-Identifier: Apache-2.0
// A mutex that tells how long the thread that made it has waited for it: the one that must not.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

namespace sagelab {

class MeasuredMutex {
 public:
  void lock() {
    if (mutex_.try_lock()) return;
    const auto start = std::chrono::steady_clock::now();
    mutex_.lock();
    if (std::this_thread::get_id() != maker_) return;
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - start;
    longest_wait_ = std::max(longest_wait_.load(), waited.count());
  }
  bool try_lock() { return mutex_.try_lock(); }
  void unlock() { mutex_.unlock(); }
  // Seconds.
  double longest_wait() const { return longest_wait_; }

 private:
  const std::thread::id maker_ = std::this_thread::get_id();
  std::mutex mutex_;
  std::atomic<double> longest_wait_ = 0;
};

}  // namespace sagelab
