// SPDX-License-Identifier: Apache-2.0
// The ids of transformers' CLIPTokenizer, from every form of its folder.
#include "pipelines/text/clip/tokenizer.h"

#include <gmock/gmock.h>

#include <map>
#include <set>

#include "attention/error.h"
#include "pipelines/core/config.h"
#include "pipelines/text/bpe/bpe.h"
#include "pipelines/text/clip/words.h"
#include "pipelines/text/unicode/classes.h"
#include "pipelines/text/unicode/unicode.h"
#include "tests/support/tokenizers.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int64_t>;
using ::testing::ElementsAre;

const fs::path kRoot = fs::path(SAGELAB_FIXTURES) / "clip_tokenizers";

const nlohmann::json& cases() {
  static const nlohmann::json json = read_json(kRoot / "cases.json");
  return json;
}

class ClipFolder : public ::testing::TestWithParam<std::string> {};

TEST_P(ClipFolder, GivesTransformersIds) {
  const auto tokenizer = open_clip_tokenizer(kRoot / GetParam());
  const nlohmann::json& expected = cases()["folders"][GetParam()];
  EXPECT_EQ(expected["77"].size(), cases()["strings"].size());
  EXPECT_EQ(testing::first_mismatch(*tokenizer, cases()["strings"], expected["6000"], 6000, false), "");
  EXPECT_EQ(testing::first_mismatch(*tokenizer, cases()["strings"], expected["77"], 77, true), "");
}

INSTANTIATE_TEST_SUITE_P(Forms, ClipFolder,
                         ::testing::Values("plain", "files", "files_bang", "legacy", "legacy_bang", "json",
                                           "json_bang", "version_4", "own_tokens", "small"),
                         [](const auto& info) { return info.param; });

TEST(ClipCases, AreMany) {
  EXPECT_GE(cases()["merges"].get<int>(), 8000);
  EXPECT_GE(cases()["strings"].size(), 200u);
  const auto tokenizer = open_clip_tokenizer(kRoot / "json");
  int64_t truncated = 0;
  std::set<int64_t> used;
  for (const std::string text : cases()["strings"]) {
    truncated += tokenizer->encode(text, 77).truncated;
    const Tokens all = tokenizer->encode(text, 6000);
    EXPECT_FALSE(all.truncated) << text;
    used.insert(all.ids.begin(), all.ids.end());
  }
  EXPECT_GE(truncated, 20);
  EXPECT_GE(used.size(), 1500u);
  // The forms differ where they should: else one of them would be no test.
  const auto& folders = cases()["folders"];
  for (const auto& [a, b] : {std::pair{"plain", "files"}, {"json", "json_bang"}, {"plain", "own_tokens"}})
    EXPECT_NE(folders[a]["77"], folders[b]["77"]) << a << " " << b;
}

TEST(ClipMutants, EveryMutantIsFound) {
  EXPECT_GE(cases()["mutants"].size(), 38u);
  testing::expect_mutants_are_found(open_clip_tokenizer, kRoot, cases(), 77);
}

TEST(ClipTokens, LengthTruncationAndPadding) {
  const auto plain = open_clip_tokenizer(kRoot / "json"), bang = open_clip_tokenizer(kRoot / "json_bang");
  const int64_t eos = cases()["vocabulary"].get<int64_t>() - 1, bos = eos - 1;
  EXPECT_EQ(plain->encode("", 4).ids, (Ids{bos, eos, eos, eos}));
  EXPECT_EQ(bang->encode("", 4).ids, (Ids{bos, eos, 0, 0}));
  EXPECT_EQ(bang->encode("!!", 5).ids, (Ids{bos, 0, 0, eos, 0}));
  EXPECT_EQ(plain->encode("", 4).length, 2);
  const std::string text = "A small red fox runs across the snowy field.";
  const Tokens all = plain->encode(text, 100);
  EXPECT_FALSE(all.truncated);
  const Tokens exact = plain->encode(text, all.length);
  EXPECT_FALSE(exact.truncated);
  EXPECT_EQ(exact.ids, Ids(all.ids.begin(), all.ids.begin() + all.length));
  const Tokens cut = plain->encode(text, all.length - 1);
  EXPECT_TRUE(cut.truncated);
  EXPECT_EQ(cut.length, all.length - 1);
  EXPECT_EQ(cut.ids.back(), eos);
  EXPECT_EQ(plain->encode("fox", 2).ids, (Ids{bos, eos}));
  EXPECT_THROW(plain->encode("fox", 1), c10::Error);
  EXPECT_EQ(clip_model_max_length(kRoot / "files"), 77);
  EXPECT_EQ(clip_model_max_length(kRoot / "plain"), std::nullopt);
}

TEST(ClipTokens, TextThatIsNotUtf8IsRefusedWithItsByte) {
  const auto tokenizer = open_clip_tokenizer(kRoot / "plain");
  try {
    tokenizer->encode("caf\xE9 noir", 16);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "the text is not UTF-8: byte 0xe9 at position 3");
  }
}

TEST(ClipTokens, LongTextTakesNoSquareOfItsLength) {
  const auto tokenizer = open_clip_tokenizer(kRoot / "plain");
  const Tokens tokens = tokenizer->encode(std::string(1000000, 'a'), 77);
  EXPECT_TRUE(tokens.truncated);
}

TEST(ClipWords, AreThoseOfTheExpressions) {
  EXPECT_THAT(clip::words("it's 12 'dusk ''s a!?b <|endoftext|>!! <|x"),
              ElementsAre("it", "'s", "1", "2", "'d", "usk", "''", "s", "a", "!?", "b", "<|", "endoftext",
                          "|>", "!!", "<|", "x"));
  EXPECT_TRUE(clip::words(" \u00a0\t").empty());
}

TEST(ClipBytes, AreWrittenAsGpt2Does) {
  EXPECT_EQ(Bpe::symbol('!'), "!");
  EXPECT_EQ(Bpe::symbol(' '), "\u0120");
  EXPECT_EQ(Bpe::symbol(0), "\u0100");
  EXPECT_EQ(Bpe::symbol(0x7F), "\u0121");
  EXPECT_EQ(Bpe::symbol(0xAD), "\u0143");
  EXPECT_EQ(Bpe::symbol(0xFF), "\u00ff");
}

std::vector<bool> members(const nlohmann::json& ranges) {
  std::vector<bool> is(0x110000);
  for (const auto& range : ranges)
    for (size_t c = range[0]; c <= range[1].get<size_t>(); ++c) is[c] = true;
  return is;
}

// All 1,112,063 of them, so that no table may be off by one.
TEST(ClipUnicode, EveryCodePointIsWhatTokenizersTakesItFor) {
  const nlohmann::json facts = read_json(kRoot / "unicode.json");
  const auto letters = members(facts["letters"]), numbers = members(facts["numbers"]);
  const auto spaces = members(facts["spaces"]);
  std::map<char32_t, std::string> lower;
  for (const auto& row : facts["lower"]) lower[row[0].get<uint32_t>()] = row[1];
  EXPECT_GT(lower.size(), 1400u);
  for (char32_t c = 1; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    ASSERT_EQ(unicode::is_letter(c), letters[c]) << std::hex << uint32_t(c);
    ASSERT_EQ(unicode::is_number(c), numbers[c]) << std::hex << uint32_t(c);
    ASSERT_EQ(unicode::is_whitespace(c), spaces[c]) << std::hex << uint32_t(c);
    const auto small = lower.find(c);
    const bool alone = small == lower.end() || c == 0x130;  // U+0130 becomes two
    ASSERT_EQ(unicode::lower_case(c), alone ? c : unicode::code_point(small->second, 0).value)
        << std::hex << uint32_t(c);
  }
}

TEST(ClipUnicode, TextIsNormalizedAsTokenizersDoes) {
  const nlohmann::json rows = read_json(kRoot / "normalized.json");
  EXPECT_GT(rows.size(), 60000u);
  for (const auto& row : rows) {
    const std::string text = row[0];
    ASSERT_EQ(clip::normalize(text), row[1].get<std::string>()) << text;
  }
}

}  // namespace
}  // namespace sagelab
