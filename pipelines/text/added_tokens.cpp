// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/added_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "attention/error.h"
#include "pipelines/text/unicode/unicode.h"

namespace sagelab {
namespace {

const AddedToken* match(const std::vector<AddedToken>& tokens, std::string_view rest) {
  for (const AddedToken& token : tokens)
    if (rest.starts_with(token.content)) return &token;
  return nullptr;
}

bool stands_alone(std::string_view text, size_t start, size_t end) {
  const auto word = [&](size_t at) { return unicode::is_word(unicode::code_point(text, at).value); };
  return (start == 0 || !word(unicode::previous(text, start))) && (end == text.size() || !word(end));
}

size_t skip_space_back(std::string_view text, size_t start, size_t limit) {
  while (start > limit) {
    const size_t before = unicode::previous(text, start);
    if (!unicode::is_whitespace(unicode::code_point(text, before).value)) break;
    start = before;
  }
  return std::max(start, limit);
}

size_t skip_space(std::string_view text, size_t end) {
  while (end < text.size()) {
    const unicode::CodePoint c = unicode::code_point(text, end);
    if (!unicode::is_whitespace(c.value)) break;
    end += c.bytes;
  }
  return end;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens,
                         const std::function<std::string(std::string_view)>& normalize,
                         const std::string& where) {
  for (AddedToken& token : tokens) {
    const std::string content = token.content;
    if (token.normalized) token.content = normalize(content);
    if (token.content.empty())
      throw Error(fmt::format("{}: the added token \"{}\" is empty", where, content));
    auto& row = (token.normalized ? normalized_ : raw_)[uint8_t(token.content[0])];
    row.push_back(std::move(token));
  }
  for (Table* table : {&raw_, &normalized_})
    for (auto& row : *table)
      std::stable_sort(row.begin(), row.end(), [](const AddedToken& a, const AddedToken& b) {
        return a.content.size() > b.content.size();
      });
}

std::vector<Fragment> AddedTokens::split(std::string_view text, bool normalized) const {
  const Table& table = normalized ? normalized_ : raw_;
  std::vector<Fragment> fragments;
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const AddedToken* token = match(table[uint8_t(text[at])], text.substr(at));
    if (!token) {
      ++at;
      continue;
    }
    const size_t start = at;
    at += token->content.size();
    if (token->single_word && !stands_alone(text, start, at)) continue;
    const size_t from = token->lstrip ? skip_space_back(text, start, done) : start;
    const size_t to = token->rstrip ? skip_space(text, at) : at;
    if (done < from) fragments.push_back({text.substr(done, from - done), -1});
    fragments.push_back({text.substr(from, to - from), token->id});
    done = to;
  }
  if (done < text.size()) fragments.push_back({text.substr(done), -1});
  return fragments;
}

}  // namespace sagelab
