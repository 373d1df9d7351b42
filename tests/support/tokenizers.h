// SPDX-License-Identifier: Apache-2.0
// What the tests of tokenizers share: ids against an oracle's, and folders with something wrong.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "attention/error.h"
#include "pipelines/text/tokenizer.h"

namespace sagelab::testing {

using OpenTokenizer = std::unique_ptr<Tokenizer> (*)(const std::filesystem::path& folder);

// The first string whose ids differ, with the place where they do.
inline std::string first_mismatch(const Tokenizer& tokenizer, const nlohmann::json& strings,
                                  const nlohmann::json& expected, int64_t max_length, bool padded) {
  for (size_t i = 0; i < expected.size(); ++i) {
    const std::string text = strings[i];
    const Tokens tokens = tokenizer.encode(text, max_length);
    std::vector<int64_t> ours = tokens.ids;
    if (int64_t(ours.size()) != max_length) return fmt::format("\"{}\" is not padded to max_length", text);
    if (!padded) ours.resize(size_t(tokens.length));
    const std::vector<int64_t> theirs = expected[i];
    if (ours == theirs) continue;
    const auto [at, other] = std::mismatch(ours.begin(), ours.end(), theirs.begin(), theirs.end());
    const auto some = [](auto from, auto end) {
      return fmt::format("{}", fmt::join(from, from + std::min<std::ptrdiff_t>(10, end - from), " "));
    };
    return fmt::format("string {} \"{}\" from token {}: ours {}, the oracle's {}", i, text, at - ours.begin(),
                       some(at, ours.end()), some(other, theirs.end()));
  }
  return {};
}

// Of a tokenizer with one thing wrong, our ids must be told. cases: {strings, mutants: {folder|what:
// [[string, ids], ...]}}.
inline void expect_mutants_are_found(OpenTokenizer open, const std::filesystem::path& root,
                                     const nlohmann::json& cases, int64_t max_length) {
  std::map<std::string, std::unique_ptr<Tokenizer>> tokenizers;
  for (const auto& [label, wrong] : cases["mutants"].items()) {
    const std::string folder = label.substr(0, label.find('|'));
    auto& tokenizer = tokenizers[folder];
    if (!tokenizer) tokenizer = open(root / folder);
    EXPECT_FALSE(wrong.empty()) << label;
    for (const auto& row : wrong) {
      const std::string text = cases["strings"][row[0].get<size_t>()];
      EXPECT_NE(tokenizer->encode(text, max_length).ids, row[1].get<std::vector<int64_t>>())
          << label << ": " << text;
    }
  }
}

// A tokenizer folder of its own, gone with the test.
class TokenizerFolder : public ::testing::Test {
 protected:
  explicit TokenizerFolder(OpenTokenizer open) : open_(open) {}
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / fmt::format("sagelab_tokenizer_{}", getpid());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }
  // What opening the folder says, the folder's name cut off.
  std::string refusal() {
    std::string text = "accepted";
    try {
      open_(folder_)->encode("some text é\u0301 ﬁ", 16);
    } catch (const Error& error) {
      text = error.what();
    }
    for (size_t at; (at = text.find(folder_.string() + "/")) != std::string::npos;)
      text.erase(at, folder_.string().size() + 1);
    return text;
  }

  OpenTokenizer open_;
  std::filesystem::path folder_;
};

}  // namespace sagelab::testing
