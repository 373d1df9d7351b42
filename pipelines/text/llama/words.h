// SPDX-License-Identifier: Apache-2.0
// The words that Llama 3's tokenizer hands to BPE one by one.
#pragma once

#include <string_view>
#include <vector>

namespace sagelab::llama {

// The expression that words() stands for, as tokenizer.json has it.
inline constexpr const char* kExpression =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Its matches in well-formed UTF-8, in order: they cover the text.
std::vector<std::string_view> words(std::string_view text);

}  // namespace sagelab::llama
