// SPDX-License-Identifier: Apache-2.0
#include "app/gui/tasks/worker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>

namespace sagelab::gui {
namespace {

Apply nothing(std::exception_ptr) {
  return {};
}

TEST(Worker, ATaskOfTheSameKeyReplacesOneThatWaits) {
  std::atomic<int> woken = 0, first = 0, second = 0;
  std::atomic<bool> held = true, begun = false;
  Inbox inbox([&] { ++woken; });
  Worker worker(inbox, nothing);
  worker.add("", [&]() -> Apply {
    begun = true;
    while (held) std::this_thread::yield();
    return [](Program&) {};
  });
  while (!begun) std::this_thread::yield();
  worker.add("key", [&]() -> Apply { return ++first, Apply(); });
  worker.add("key", [&]() -> Apply { return ++second, Apply(); });
  held = false;
  worker.wait_idle();
  EXPECT_EQ(first, 0);
  EXPECT_EQ(second, 1);
  EXPECT_EQ(woken, 1) << "who changes nothing wakes nobody";
  EXPECT_EQ(inbox.take().size(), 1u);
  EXPECT_TRUE(inbox.take().empty());
}

TEST(Worker, WhatIsReplacedIsFreedAtOnce) {
  std::atomic<bool> held = true;
  Inbox inbox([] {});
  Worker worker(inbox, nothing);
  worker.add("", [&]() -> Apply {
    while (held) std::this_thread::yield();
    return {};
  });
  const auto large = std::make_shared<int>(0);
  int done = 0;
  for (int i = 1; i <= 100; ++i)
    worker.add("key", [large, i, &done]() -> Apply { return done = i, Apply(); });
  EXPECT_EQ(large.use_count(), 2);
  held = false;
  worker.wait_idle();
  EXPECT_EQ(done, 100);
}

TEST(Worker, WhatIsThrownBecomesAnApply) {
  int failures = 0;
  Inbox inbox([] {});
  Worker worker(inbox, [&](const std::exception_ptr&) -> Apply {
    ++failures;
    return [](Program&) {};
  });
  worker.add("", []() -> Apply { throw std::runtime_error("x"); });
  worker.wait_idle();
  EXPECT_EQ(failures, 1);
  EXPECT_EQ(inbox.take().size(), 1u);
}

TEST(Worker, OnlyWhatMustNotBeLostIsDoneAtTheEnd) {
  std::atomic<int> kept = 0, dropped = 0;
  std::atomic<bool> begun = false;
  {
    Inbox inbox([] {});
    Worker worker(inbox, nothing);
    worker.add("", [&]() -> Apply {
      begun = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      return {};
    });
    while (!begun) std::this_thread::yield();
    worker.add("", [&]() -> Apply { return ++dropped, Apply(); });
    worker.add(
        "", [&]() -> Apply { return ++kept, Apply(); }, true);
  }
  EXPECT_EQ(kept, 1);
  EXPECT_EQ(dropped, 0);
}

}  // namespace
}  // namespace sagelab::gui
