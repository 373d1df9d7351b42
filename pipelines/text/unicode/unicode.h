// SPDX-License-Identifier: Apache-2.0
// The Unicode facts that tokenizers need, as the Rust crates behind Hugging Face's `tokenizers` have them.
#pragma once

#include <cstddef>
#include <string_view>

namespace sagelab::unicode {

struct CodePoint {
  char32_t value = 0;
  size_t bytes = 0;
};

// The functions below take well-formed UTF-8 and offsets at which a code point starts.
CodePoint code_point(std::string_view text, size_t at);
// Where the last code point before `end` starts; end > 0.
size_t previous(std::string_view text, size_t end);
// White_Space: char::is_whitespace, and \s of a regex.
bool is_whitespace(char32_t c);
// \w of a regex: Alphabetic, marks, decimal digits, connector punctuation, Join_Control.
bool is_word(char32_t c);
// Where the run that starts at `at` and of which every code point is `kind` ends.
size_t run_end(std::string_view text, size_t at, bool (*kind)(char32_t));
// Where the extended grapheme cluster that starts at `at` ends (UAX 29).
size_t cluster_end(std::string_view text, size_t at);

}  // namespace sagelab::unicode
