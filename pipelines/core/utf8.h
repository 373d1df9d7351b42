// SPDX-License-Identifier: Apache-2.0
// Whether text is UTF-8, told once for prompts, tokenizers and their files.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <optional>
#include <string_view>

#include "attention/error.h"

namespace sagelab {

// Length of the UTF-8 sequence at the front of text, or 0: overlong forms, surrogates and values past
// U+10FFFF are none.
inline size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto continues = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const unsigned first = byte(0), second = byte(1);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first < 0xE0) return continues(1) ? 2 : 0;
  if (first >= 0xE0 && first < 0xF0) {
    const bool legal = !(first == 0xE0 && second < 0xA0) && !(first == 0xED && second >= 0xA0);
    return legal && continues(1) && continues(2) ? 3 : 0;
  }
  if (first >= 0xF0 && first < 0xF5) {
    const bool legal = !(first == 0xF0 && second < 0x90) && !(first == 0xF4 && second >= 0x90);
    return legal && continues(1) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

// The offset of the first byte that does not belong to well-formed UTF-8.
inline std::optional<size_t> first_invalid_byte(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const size_t length = utf8_length(text.substr(i));
    if (!length) return i;
    i += length;
  }
  return std::nullopt;
}

// Throws sagelab::Error naming that byte: "the prompt is not UTF-8: byte 0xff at position 3".
inline void check_utf8(std::string_view text, std::string_view what) {
  if (const auto bad = first_invalid_byte(text))
    throw Error(fmt::format("the {} is not UTF-8: byte 0x{:02x} at position {}", what,
                            static_cast<unsigned char>(text[*bad]), *bad),
                "convert the text to UTF-8");
}

}  // namespace sagelab
