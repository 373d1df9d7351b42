// SPDX-License-Identifier: Apache-2.0
// What CLIP's tokenizer does to text before BPE: normalise it, then take words out of it. Both take
// well-formed UTF-8.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sagelab::clip {

// NFC (Unicode 9, as `tokenizers` has it: later marks stay where they are), every run of white space one
// space, lower case code point by code point.
std::string normalize(std::string_view text);

// The words of normalised text in order; the spaces between them are dropped. As two expressions one after
// the other find them:
//   <\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+
// and inside each match GPT-2's own, which cuts the two special strings into "<|", their name and "|>".
std::vector<std::string_view> words(std::string_view text);

}  // namespace sagelab::clip
