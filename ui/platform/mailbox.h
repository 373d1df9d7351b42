// SPDX-License-Identifier: Apache-2.0
// Letters from any thread to one. Without a lock: a thread that holds one and is put off the processor would
// hold up every other, and a frame of the window must not be.
#pragma once

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

namespace sagelab::ui {

template <class T>
class Mailbox {
 public:
  Mailbox() = default;
  ~Mailbox() { take(); }
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  void post(T content) {
    auto* letter = new Letter{std::move(content), last_.load(std::memory_order_relaxed)};
    while (!last_.compare_exchange_weak(letter->before, letter, std::memory_order_release,
                                        std::memory_order_relaxed)) {
    }
    last_.notify_one();
  }
  // All that came, in the order in which it was posted.
  std::vector<T> take() {
    std::vector<T> taken;
    for (auto* letter = last_.exchange(nullptr, std::memory_order_acquire); letter;) {
      taken.push_back(std::move(letter->content));
      delete std::exchange(letter, letter->before);
    }
    std::reverse(taken.begin(), taken.end());
    return taken;
  }
  void wait() const { last_.wait(nullptr); }  // until something is there

 private:
  struct Letter {
    T content;
    Letter* before;
  };
  std::atomic<Letter*> last_ = nullptr;
};

}  // namespace sagelab::ui
