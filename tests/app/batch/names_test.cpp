// SPDX-License-Identifier: Apache-2.0
#include "app/batch/names.h"

#include <gtest/gtest.h>

#include "pipelines/core/utf8.h"

namespace sagelab::batch {
namespace {

using Texts = std::vector<std::string>;

std::vector<Prompt> prompts(const Texts& texts) {
  std::vector<Prompt> all;
  for (const auto& text : texts) {
    all.emplace_back().text = text;
    all.back().index = int(all.size()) - 1;
  }
  return all;
}

TEST(BatchNames, CountAsOpenSora) {
  EXPECT_EQ(stems_of(prompts({"a", "b", "a"}), NameBy::Index),
            (Texts{"sample_0000", "sample_0001", "sample_0002"}));
  EXPECT_EQ(name_of("sample_0000", NameBy::Index, 0, false), "sample_0000");
  EXPECT_EQ(name_of("sample_0000", NameBy::Index, 1, true), "sample_0000-1");
}

TEST(BatchNames, AreThePromptAsVBench) {
  EXPECT_EQ(stems_of(prompts({"a fox, running.", "in 1/4 time", ".hidden", "two\nlines"}), NameBy::Prompt),
            (Texts{"a fox, running.", "in 1_4 time", "_hidden", "two_lines"}));
  EXPECT_EQ(name_of("a fox", NameBy::Prompt, 0, false), "a fox-0");
}

TEST(BatchNames, LongOnesAreCutBetweenCharacters) {
  const std::string two = "é", four = "🦊";
  std::string text = "x";
  for (int i = 0; i < 200; ++i) text += two;
  EXPECT_EQ(file_text(text).size(), 179u);
  text = "xy";
  for (int i = 0; i < 200; ++i) text += four;
  EXPECT_EQ(file_text(text).size(), 178u);
  EXPECT_FALSE(first_invalid_byte(file_text(text)));
  EXPECT_EQ(file_text(std::string(300, 'a')).size(), 180u);
}

TEST(BatchNames, ThatAreTakenGetAnIndex) {
  const std::string start(200, 'a');
  EXPECT_EQ(stems_of(prompts({start + "1", start + "2", "Fox", "fox", "Fox"}), NameBy::Prompt),
            (Texts{std::string(180, 'a'), std::string(180, 'a') + "_0001", "Fox", "fox_0003", "Fox_0004"}));
  EXPECT_EQ(stems_of(prompts({"a_0002", "a", "a"}), NameBy::Prompt), (Texts{"a_0002", "a", "a_0002_"}));
  EXPECT_EQ(stems_of(prompts({"", "b"}), NameBy::Prompt), (Texts{"sample_0000", "b"}))
      << "a line that is no text";
}

TEST(BatchNames, SpecsHaveFoldersOfTheirOwn) {
  EXPECT_EQ(folders_of({"sdpa(math)"}), Texts{""});
  EXPECT_EQ(folders_of({"sdpa", "sage2(qk=int4)", "sage2(qk,int4)", "check(sdpa,reference)"}),
            (Texts{"sdpa/", "sage2-qk-int4/", "sage2-qk-int4-2/", "check-sdpa-reference/"}));
}

}  // namespace
}  // namespace sagelab::batch
