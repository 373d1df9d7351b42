// SPDX-License-Identifier: Apache-2.0
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "attention/error.h"
#include "pipelines/core/config.h"
#include "pipelines/core/utf8.h"
#include "pipelines/text/added_tokens.h"
#include "pipelines/text/t5/settings.h"
#include "pipelines/text/t5/vocabulary.h"
#include "pipelines/text/tokenizer.h"
#include "pipelines/text/unicode/unicode.h"
#include "pipelines/text/unigram/character_map.h"
#include "pipelines/text/unigram/unigram.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMark = "\xE2\x96\x81";  // U+2581: where a word starts

class T5Tokenizer : public Tokenizer {
 public:
  T5Tokenizer(T5Vocabulary vocabulary, const T5Settings& settings, const std::string& where)
      : unigram_(std::move(vocabulary.pieces), kT5UnknownId, where) {
    if (!vocabulary.character_map.empty()) map_ = CharacterMap(vocabulary.character_map, where);
    const auto by_content = with_ids(settings.added, unigram_.size(),
                                     [&](const std::string& content) { return unigram_.id(content); });
    eos_ = id_of(settings.eos, by_content);
    pad_ = id_of(settings.pad, by_content);
    added_ = added_tokens(
        by_content, [&](std::string_view text) { return map_.normalize(text); }, where);
  }

  Tokens encode(std::string_view text, int64_t max_length) const override {
    TORCH_CHECK(max_length >= 1, "max_length ", max_length, " leaves no place for the end token");
    check_utf8(text, "text");
    Tokens tokens;
    for (const Fragment& raw : added_.split(text, false)) {
      if (raw.id >= 0) {
        tokens.ids.push_back(raw.id);
        continue;
      }
      const std::string normalized = map_.normalize(raw.text);
      for (const Fragment& part : added_.split(normalized, true)) {
        if (part.id >= 0)
          tokens.ids.push_back(part.id);
        else
          encode_words(part.text, tokens.ids);
      }
    }
    tokens.truncated = int64_t(tokens.ids.size()) > max_length - 1;
    if (tokens.truncated) tokens.ids.resize(size_t(max_length - 1));
    tokens.ids.push_back(eos_);
    tokens.length = int64_t(tokens.ids.size());
    tokens.ids.resize(size_t(max_length), pad_);
    return tokens;
  }

 private:
  int64_t id_of(const std::string& token, const std::map<std::string, AddedToken>& added) const {
    const auto found = added.find(token);
    return found != added.end() ? found->second.id : kT5UnknownId;
  }

  void encode_words(std::string_view text, std::vector<int64_t>& ids) const {
    for (size_t at = 0; at < text.size();) {
      size_t end = at;
      unicode::CodePoint c;
      while (end < text.size()) {
        c = unicode::code_point(text, end);
        if (unicode::is_whitespace(c.value)) break;
        end += c.bytes;
      }
      if (end > at) encode_word(text.substr(at, end - at), ids);
      at = end < text.size() ? end + c.bytes : end;
    }
  }

  // A mark goes in front of every word, and starts a new word where the text itself has one.
  void encode_word(std::string_view word, std::vector<int64_t>& ids) const {
    const std::string marked = word.starts_with(kMark) ? std::string(word) : std::string(kMark).append(word);
    for (size_t at = 0; at < marked.size();) {
      const size_t end = std::min(marked.find(kMark, at + kMark.size()), marked.size());
      unigram_.encode(std::string_view(marked).substr(at, end - at), ids);
      at = end;
    }
  }

  Unigram unigram_;
  CharacterMap map_;
  AddedTokens added_;
  int64_t eos_ = 0, pad_ = 0;
};

}  // namespace

std::unique_ptr<Tokenizer> open_t5_tokenizer(const fs::path& folder) {
  if (!fs::is_directory(folder))
    throw Error(fmt::format("{}: no such folder", folder.string()),
                "point to the folder of a whole diffusers checkpoint");
  const fs::path json_file = folder / "tokenizer.json", spiece_file = folder / "spiece.model";
  if (fs::exists(json_file)) {
    const nlohmann::json json = read_json(json_file);
    T5Vocabulary vocabulary = vocabulary_from_json(json, json_file.string());
    const T5Settings settings = read_t5_settings(folder, &json, {});
    return std::make_unique<T5Tokenizer>(std::move(vocabulary), settings, json_file.string());
  }
  if (!fs::exists(spiece_file))
    throw Error(fmt::format("{}: neither tokenizer.json nor spiece.model is there", folder.string()),
                "the checkpoint is incomplete; download its tokenizer again");
  T5Vocabulary vocabulary = vocabulary_from_spiece(spiece_file);
  const T5Settings settings = read_t5_settings(folder, nullptr, vocabulary.controls);
  for (int64_t i = settings.extra_ids - 1; i >= 0; --i)
    vocabulary.pieces.push_back({fmt::format("<extra_id_{}>", i), 0.0});
  return std::make_unique<T5Tokenizer>(std::move(vocabulary), settings, spiece_file.string());
}

}  // namespace sagelab
