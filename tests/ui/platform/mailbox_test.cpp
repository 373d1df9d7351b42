// SPDX-License-Identifier: Apache-2.0
#include "ui/platform/mailbox.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

namespace sagelab::ui {
namespace {

TEST(Mailbox, GivesEachLetterOnceInTheOrderOfItsSender) {
  constexpr int kSenders = 4, kLetters = 20000;
  struct Letter {
    int sender = 0, number = 0;
  };
  Mailbox<Letter> box;
  std::vector<std::jthread> senders;
  for (int s = 0; s < kSenders; ++s)
    senders.emplace_back([&box, s] {
      for (int i = 0; i < kLetters; ++i) box.post({s, i});
    });
  std::vector<int> next(kSenders, 0);
  for (int got = 0; got < kSenders * kLetters;) {
    box.wait();
    const auto letters = box.take();
    ASSERT_FALSE(letters.empty()) << "it said that something is there";
    for (const auto& [sender, number] : letters) ASSERT_EQ(number, next[size_t(sender)]++);
    got += int(letters.size());
  }
  EXPECT_TRUE(box.take().empty());
}

TEST(Mailbox, WaitsForTheFirstLetter) {
  Mailbox<std::unique_ptr<int>> box;
  std::jthread sender([&box] { box.post(std::make_unique<int>(7)); });
  box.wait();
  const auto letters = box.take();
  ASSERT_EQ(letters.size(), 1u);
  EXPECT_EQ(*letters.front(), 7);
}

TEST(Mailbox, FreesWhatNobodyTook) {
  const auto letter = std::make_shared<int>(1);
  {
    Mailbox<std::shared_ptr<int>> box;
    box.post(letter);
    box.post(letter);
    EXPECT_EQ(letter.use_count(), 3);
  }
  EXPECT_EQ(letter.use_count(), 1);
}

}  // namespace
}  // namespace sagelab::ui
