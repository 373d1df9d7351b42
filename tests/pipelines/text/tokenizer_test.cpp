// SPDX-License-Identifier: Apache-2.0
// The ids of transformers' T5Tokenizer, from every form of its folder.
#include "pipelines/text/tokenizer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <unicode/uchar.h>
#include <unicode/uscript.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "attention/error.h"
#include "pipelines/core/config.h"
#include "pipelines/text/unicode/unicode.h"
#include "tests/support/parity.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int64_t>;

const fs::path kRoot = fs::path(SAGELAB_FIXTURES) / "text_tokenizers";

const nlohmann::json& cases() {
  static const nlohmann::json json = read_json(kRoot / "cases.json");
  return json;
}

std::string shown(const Ids& ids, size_t around) {
  const size_t first = around < 5 ? 0 : around - 5, last = std::min(ids.size(), around + 10);
  return fmt::format("... {} ...",
                     fmt::join(ids.begin() + std::ptrdiff_t(first), ids.begin() + std::ptrdiff_t(last), " "));
}

// The first string whose ids differ, with the place where they do.
std::string first_mismatch(const Tokenizer& tokenizer, const nlohmann::json& expected, int64_t max_length,
                           bool padded) {
  for (size_t i = 0; i < expected.size(); ++i) {
    const std::string text = cases()["strings"][i];
    const Tokens tokens = tokenizer.encode(text, max_length);
    Ids ours = tokens.ids;
    if (int64_t(ours.size()) != max_length) return fmt::format("\"{}\" is not padded to max_length", text);
    if (!padded) ours.resize(size_t(tokens.length));
    const Ids theirs = expected[i];
    if (ours == theirs) continue;
    const auto [at, unused] = std::mismatch(ours.begin(), ours.end(), theirs.begin(), theirs.end());
    const auto place = size_t(at - ours.begin());
    return fmt::format("string {} \"{}\" from token {}: ours {}, transformers' {}", i, text, place,
                       shown(ours, place), shown(theirs, place));
  }
  return {};
}

class T5Folder : public ::testing::TestWithParam<std::string> {};

TEST_P(T5Folder, GivesTransformersIds) {
  const auto tokenizer = open_t5_tokenizer(kRoot / GetParam());
  const nlohmann::json& expected = cases()["folders"][GetParam()];
  EXPECT_EQ(first_mismatch(*tokenizer, expected["2000"], 2000, false), "");
  EXPECT_EQ(first_mismatch(*tokenizer, expected["226"], 226, true), "");
}

INSTANTIATE_TEST_SUITE_P(Forms, T5Folder,
                         ::testing::Values("json", "spiece", "plain", "legacy", "version_4", "own_tokens"),
                         [](const auto& info) { return info.param; });

std::u32string code_points(std::string_view text) {
  std::u32string points;
  for (size_t at = 0; at < text.size();) {
    const unicode::CodePoint c = unicode::code_point(text, at);
    points.push_back(c.value);
    at += c.bytes;
  }
  return points;
}

UScriptCode script_of(char32_t c) {
  UErrorCode error = U_ZERO_ERROR;
  return uscript_getScript(UChar32(c), &error);
}

TEST(T5Cases, AreMany) {
  EXPECT_GE(cases()["pieces"].get<int>(), 8000);
  EXPECT_GE(cases()["strings"].size(), 200u);
  int64_t tokens = 0, unknown = 0, truncated = 0, longest = 0;
  std::set<UScriptCode> scripts;
  const auto tokenizer = open_t5_tokenizer(kRoot / "json");
  for (const std::string text : cases()["strings"]) {
    const Tokens all = tokenizer->encode(text, 2000);
    tokens += all.length;
    unknown += std::count(all.ids.begin(), all.ids.end(), 2);
    truncated += tokenizer->encode(text, 226).truncated;
    const std::u32string points = code_points(text);
    longest = std::max(longest, int64_t(points.size()));
    for (const char32_t c : points)
      if (u_isalpha(UChar32(c))) scripts.insert(script_of(c));
    EXPECT_FALSE(all.truncated) << text;
  }
  EXPECT_LE(double(unknown), 0.05 * double(tokens));
  EXPECT_GE(truncated, 10);
  EXPECT_GE(longest, 1000);
  scripts.erase(USCRIPT_COMMON), scripts.erase(USCRIPT_INHERITED), scripts.erase(USCRIPT_UNKNOWN);
  EXPECT_GE(scripts.size(), 10u);
}

TEST(T5Tokens, LengthTruncationAndPadding) {
  const auto tokenizer = open_t5_tokenizer(kRoot / "json");
  EXPECT_EQ(tokenizer->encode("", 4).ids, (Ids{1, 0, 0, 0}));
  EXPECT_EQ(tokenizer->encode("", 4).length, 1);
  EXPECT_EQ(tokenizer->encode("</s> <pad> <unk>", 5).ids, (Ids{1, 0, 2, 1, 0}));
  const Tokens all = tokenizer->encode("A small red fox runs across the snowy field.", 100);
  EXPECT_FALSE(all.truncated);
  const Tokens exact = tokenizer->encode("A small red fox runs across the snowy field.", all.length);
  EXPECT_FALSE(exact.truncated);
  EXPECT_EQ(exact.ids, Ids(all.ids.begin(), all.ids.begin() + all.length));
  const Tokens cut = tokenizer->encode("A small red fox runs across the snowy field.", all.length - 1);
  EXPECT_TRUE(cut.truncated);
  EXPECT_EQ(cut.ids.back(), 1);
  EXPECT_EQ(cut.ids.front(), all.ids.front());
  EXPECT_EQ(tokenizer->encode("fox", 1).ids, Ids{1});
  EXPECT_THROW(tokenizer->encode("fox", 0), c10::Error);
}

TEST(T5Tokens, TextThatIsNotUtf8IsRefusedWithItsByte) {
  const auto tokenizer = open_t5_tokenizer(kRoot / "json");
  const auto refusal = [&](std::string_view text) -> std::string {
    try {
      tokenizer->encode(text, 16);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  using namespace std::string_view_literals;
  EXPECT_EQ(refusal("caf\xE9 noir"), "the text is not UTF-8: byte 0xe9 at position 3");
  EXPECT_EQ(refusal("ab\x80"), "the text is not UTF-8: byte 0x80 at position 2");
  EXPECT_EQ(refusal("\xC0\xAF"), "the text is not UTF-8: byte 0xc0 at position 0");       // overlong
  EXPECT_EQ(refusal("\xE0\x80\xAF"), "the text is not UTF-8: byte 0xe0 at position 0");   // overlong
  EXPECT_EQ(refusal("x\xED\xA0\x80"), "the text is not UTF-8: byte 0xed at position 1");  // a surrogate
  EXPECT_EQ(refusal("\xF4\x90\x80\x80"),
            "the text is not UTF-8: byte 0xf4 at position 0");                           // beyond U+10FFFF
  EXPECT_EQ(refusal("\xF0\x9F\x98"), "the text is not UTF-8: byte 0xf0 at position 0");  // cut short
  EXPECT_EQ(refusal("ok\0\xF4\x8F\xBF\xBF"sv), "accepted");
}

}  // namespace
}  // namespace sagelab
