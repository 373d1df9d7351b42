// SPDX-License-Identifier: Apache-2.0
// The ids of Hugging Face's `tokenizers`, from every form of a Llama tokenizer's folder.
#include "pipelines/text/llama/tokenizer.h"

#include <c10/util/Exception.h>
#include <gmock/gmock.h>

#include <set>

#include "attention/error.h"
#include "pipelines/core/config.h"
#include "pipelines/text/llama/words.h"
#include "pipelines/text/unicode/unicode.h"
#include "tests/support/tokenizers.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int64_t>;
using ::testing::ElementsAre;

const fs::path kRoot = fs::path(SAGELAB_FIXTURES) / "llama_tokenizers";

const nlohmann::json& cases() {
  static const nlohmann::json json = read_json(kRoot / "cases.json");
  return json;
}

class LlamaFolder : public ::testing::TestWithParam<std::string> {};

TEST_P(LlamaFolder, GivesTheIdsOfTokenizers) {
  const auto tokenizer = open_llama_tokenizer(kRoot / GetParam());
  const nlohmann::json& expected = cases()["folders"][GetParam()];
  const nlohmann::json& strings = cases()["strings"];
  EXPECT_EQ(expected["12000"].size(), strings.size());
  EXPECT_GE(expected["351"].size(), 450u);
  EXPECT_EQ(testing::first_mismatch(*tokenizer, strings, expected["12000"], 12000, false), "");
  EXPECT_EQ(testing::first_mismatch(*tokenizer, strings, expected["351"], 351, true), "");
}

INSTANTIATE_TEST_SUITE_P(Forms, LlamaFolder, ::testing::Values("released", "fast", "bare", "own_tokens"),
                         [](const auto& info) { return info.param; });

TEST(LlamaCases, AreMany) {
  EXPECT_GE(cases()["merges"].get<int>(), 8000);
  EXPECT_GE(cases()["strings"].size(), 4200u);
  const auto tokenizer = open_llama_tokenizer(kRoot / "released");
  int64_t truncated = 0;
  std::set<int64_t> used;
  for (const std::string text : cases()["strings"]) {
    truncated += tokenizer->encode(text, 351).truncated;
    const Tokens all = tokenizer->encode(text, 12000);
    EXPECT_FALSE(all.truncated) << text;
    used.insert(all.ids.begin(), all.ids.end());
  }
  EXPECT_GE(truncated, 10);
  EXPECT_GE(used.size(), 1500u);
  // The forms differ where they should: else one of them would be no test.
  const auto& folders = cases()["folders"];
  EXPECT_EQ(folders["released"], folders["fast"]);
  for (const char* other : {"bare", "own_tokens"})
    EXPECT_NE(folders["released"]["351"], folders[other]["351"]);
}

TEST(LlamaMutants, EveryMutantIsFound) {
  EXPECT_GE(cases()["mutants"].size(), 60u);
  testing::expect_mutants_are_found(open_llama_tokenizer, kRoot, cases(), 351);
}

// The rows that are cut off in front are those of the template, whatever the prompt.
TEST(LlamaTemplate, EndsWhereItIsCropped) {
  const auto tokenizer = open_llama_tokenizer(kRoot / "released");
  const auto crop = cases()["crop"].get<int64_t>();
  EXPECT_EQ(crop, 95);
  const int64_t length = 256 + crop, end_of_turn = tokenizer->encode("<|eot_id|>", 2).ids[1];
  Ids front;
  for (const std::string prompt : cases()["prompts"]) {
    const Tokens tokens = tokenizer->encode(prompt, length);
    const Ids first(tokens.ids.begin(), tokens.ids.begin() + crop);
    if (front.empty()) front = first;
    EXPECT_EQ(first, front) << prompt;
    EXPECT_EQ(tokens.ids[size_t(tokens.length) - 1] == end_of_turn, !tokens.truncated) << prompt;
  }
  // The empty prompt comes first, and one that is too long loses the end of its turn last.
  const auto& prompts = cases()["prompts"];
  EXPECT_EQ(tokenizer->encode(prompts.front().get<std::string>(), length).length, crop + 1);
  EXPECT_TRUE(tokenizer->encode(prompts.back().get<std::string>(), length).truncated);
}

TEST(LlamaTokens, LengthTruncationAndPadding) {
  const auto tokenizer = open_llama_tokenizer(kRoot / "released");
  const auto bos = cases()["vocabulary"].get<int64_t>(), pad = bos + 258;  // behind 256 tokens and two
  EXPECT_EQ(tokenizer->encode("", 4).ids, (Ids{bos, pad, pad, pad}));
  EXPECT_EQ(tokenizer->encode("", 4).length, 1);
  EXPECT_EQ(tokenizer->encode("<pad><|eot_id|>", 4).ids, (Ids{bos, pad, bos + 9, pad}));
  EXPECT_EQ(open_llama_tokenizer(kRoot / "bare")->encode("", 3).ids, (Ids{bos, bos + 9, bos + 9}));
  const std::string text = "A small red fox runs across the snowy field.";
  const Tokens all = tokenizer->encode(text, 100);
  EXPECT_FALSE(all.truncated);
  const Tokens exact = tokenizer->encode(text, all.length);
  EXPECT_FALSE(exact.truncated);
  EXPECT_EQ(exact.ids, Ids(all.ids.begin(), all.ids.begin() + all.length));
  const Tokens cut = tokenizer->encode(text, all.length - 1);
  EXPECT_TRUE(cut.truncated);
  EXPECT_EQ(cut.ids, Ids(all.ids.begin(), all.ids.begin() + all.length - 1));
  EXPECT_EQ(tokenizer->encode("fox", 1).ids, Ids{bos});
  EXPECT_THROW(tokenizer->encode("fox", 0), c10::Error);
}

TEST(LlamaTokens, TextThatIsNotUtf8IsRefusedWithItsByte) {
  const auto tokenizer = open_llama_tokenizer(kRoot / "fast");
  try {
    tokenizer->encode("caf\xE9 noir", 16);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "the text is not UTF-8: byte 0xe9 at position 3");
  }
}

TEST(LlamaTokens, LongTextTakesNoSquareOfItsLength) {
  const auto tokenizer = open_llama_tokenizer(kRoot / "released");
  for (const char letter : {'a', ' ', '\n', '!', '1'}) {
    const std::string text = fmt::format("{}x", std::string(1000000, letter));
    EXPECT_TRUE(tokenizer->encode(text, 351).truncated) << letter;
  }
}

TEST(LlamaWords, AreThoseOfTheExpression) {
  EXPECT_THAT(llama::words("it's\tIT'Sx 'dusk 1234 !?\r\n\n a  b \n \n c"),
              ElementsAre("it", "'s", "\tIT", "'S", "x", " '", "dusk", " ", "123", "4", " !?\r\n\n", " a",
                          " ", " b", " \n \n", " c"));
  EXPECT_THAT(llama::words(" \u00a0\t"), ElementsAre(" \u00a0\t"));
  EXPECT_TRUE(llama::words("").empty());
}

// Every letter behind an apostrophe, of which one that is no s counts as one.
TEST(LlamaWords, ContractionsTakeNoHeedOfCase) {
  const std::map<std::string, std::string> ends = {
      {"", "sStTmMdD\u017F"}, {"r", "eE"}, {"v", "eE"}, {"l", "lL"}};
  for (const auto& [front, letters] : ends) {
    std::set<char32_t> ours, theirs;
    for (const auto& c : cases()["contractions"][front]) theirs.insert(c.get<uint32_t>());
    for (size_t at = 0; at < letters.size();) {
      const unicode::CodePoint c = unicode::code_point(letters, at);
      ours.insert(c.value);
      const std::string text = "'" + front + letters.substr(at, c.bytes) + "x";
      EXPECT_THAT(llama::words(text), ElementsAre(text.substr(0, text.size() - 1), "x"));
      at += c.bytes;
    }
    EXPECT_EQ(ours, theirs) << front;
  }
}

}  // namespace
}  // namespace sagelab
