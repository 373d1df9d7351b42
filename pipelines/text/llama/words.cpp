// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/llama/words.h"

#include <algorithm>

#include "pipelines/text/unicode/classes.h"
#include "pipelines/text/unicode/unicode.h"

namespace sagelab::llama {
namespace {

using unicode::is_letter;
using unicode::is_number;
using unicode::run_end;

bool is_line_end(char32_t c) {
  return c == '\r' || c == '\n';
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d): its length at the front of text; 0: none.
size_t contraction(std::string_view text) {
  if (!text.starts_with('\'')) return 0;
  const std::string_view rest = text.substr(1);
  constexpr std::string_view kLongS = "\u017F";  // folds to s
  if (rest.starts_with(kLongS)) return 1 + kLongS.size();
  // Without regard to case; of the letters of the endings only s has a third form.
  const auto starts = [&](std::string_view ending) {
    return rest.size() >= ending.size() && std::equal(ending.begin(), ending.end(), rest.begin(),
                                                      [](char a, char b) { return a == (b | 0x20); });
  };
  for (const std::string_view ending : {"s", "t", "re", "ve", "m", "ll", "d"})
    if (starts(ending)) return 1 + ending.size();
  return 0;
}

// \p{N}{1,3}
size_t number_end(std::string_view text, size_t at) {
  for (int digits = 0; digits < 3 && at < text.size(); ++digits) {
    const unicode::CodePoint c = unicode::code_point(text, at);
    if (!is_number(c.value)) break;
    at += c.bytes;
  }
  return at;
}

// \s*[\r\n]+|\s+(?!\S)|\s+: to the last line end; else all of it, but for the last one where text follows.
size_t space_end(std::string_view text, size_t at) {
  const size_t end = run_end(text, at, unicode::is_whitespace);
  const size_t line = text.substr(at, end - at).find_last_of("\r\n");
  if (line != std::string_view::npos) return at + line + 1;
  if (end == text.size()) return end;
  const size_t last = unicode::previous(text, end);
  return last > at ? last : end;
}

size_t word_end(std::string_view text, size_t at) {
  if (const size_t length = contraction(text.substr(at))) return at + length;
  const unicode::CodePoint c = unicode::code_point(text, at);
  const size_t next = at + c.bytes;
  // [^\r\n\p{L}\p{N}]?\p{L}+
  const bool prefix = !is_line_end(c.value) && !is_number(c.value) && next < text.size() &&
                      is_letter(unicode::code_point(text, next).value);
  if (is_letter(c.value) || prefix) return run_end(text, next, is_letter);
  if (is_number(c.value)) return number_end(text, at);
  //  ?[^\s\p{L}\p{N}]+[\r\n]*
  const size_t others = c.value == ' ' ? next : at;
  const size_t end = run_end(text, others, unicode::is_other);
  return end > others ? run_end(text, end, is_line_end) : space_end(text, at);
}

}  // namespace

std::vector<std::string_view> words(std::string_view text) {
  std::vector<std::string_view> found;
  for (size_t at = 0; at < text.size();) {
    const size_t end = word_end(text, at);
    found.push_back(text.substr(at, end - at));
    at = end;
  }
  return found;
}

}  // namespace sagelab::llama
