// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/ui/null_window.h"
#include "ui/look/theme.h"

namespace sagelab::ui {
namespace {

constexpr const char* kEllipsis = "\xe2\x80\xa6";

// What a line becomes in each width, up to the one that holds all of it.
std::vector<std::string> in_all_widths(const std::string& text) {
  std::vector<std::string> shown;
  NullWindow window([&] {
    if (!shown.empty()) return;
    const float whole = ImGui::CalcTextSize(text.c_str()).x;
    for (float width = 1; width <= whole + 1; width += 1) {
      shown.push_back(shortened(text, width));
      if (shown.back() == kEllipsis) continue;
      EXPECT_LE(ImGui::CalcTextSize(shown.back().c_str()).x, width) << shown.back();
    }
  });
  window.frame();
  return shown;
}

TEST(Text, IsShortenedWhereItDoesNotFit) {
  const std::string text = "sage2(mean=full,smooth_v=off,v=channel)";
  const auto shown = in_all_widths(text);
  ASSERT_GT(shown.size(), 100u);
  EXPECT_EQ(shown.front(), kEllipsis);
  EXPECT_EQ(shown.back(), text);
  for (size_t i = 0; i + 1 < shown.size(); ++i) {
    EXPECT_LE(shown[i].size(), shown[i + 1].size() + std::string(kEllipsis).size());
    if (shown[i] == text) continue;
    ASSERT_TRUE(shown[i].ends_with(kEllipsis)) << shown[i];
    EXPECT_TRUE(text.starts_with(shown[i].substr(0, shown[i].size() - 3))) << shown[i];
  }
}

TEST(Text, IsNeverCutWithinACharacter) {
  const std::string text =
      "\xe7\xb2\x89\xe7\xba\xa2\xe8\x89\xb2\xe7\x9a\x84\xe7\x8e\xaf";  // five of three bytes
  for (const auto& shown : in_all_widths(text)) EXPECT_EQ(shown.size() % 3, 0u) << shown;
}

}  // namespace
}  // namespace sagelab::ui
