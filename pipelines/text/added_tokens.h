// SPDX-License-Identifier: Apache-2.0
// Tokens that are cut out of the text before the model of a tokenizer sees it, as Hugging Face's `tokenizers`
// does: the longest of the leftmost matches.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace sagelab {

struct AddedToken {
  std::string content;
  bool single_word = false;             // only where no word character touches it
  bool lstrip = false, rstrip = false;  // takes the white space before it, after it
  bool normalized = false;              // looked for in the normalised text, in its own normalised form
  int64_t id = -1;
};

// Part of a text: a token, or (id -1) what lies between tokens.
struct Fragment {
  std::string_view text;
  int64_t id = -1;
};

class AddedTokens {
 public:
  AddedTokens() = default;
  // Throws sagelab::Error for a token that is empty, or is after normalisation. where: the file, for
  // messages.
  AddedTokens(std::vector<AddedToken> tokens, const std::function<std::string(std::string_view)>& normalize,
              const std::string& where);

  // Fragments in order, none of them empty text. normalized: which of the tokens to look for.
  std::vector<Fragment> split(std::string_view text, bool normalized) const;

 private:
  // Tokens by the first byte of what is looked for, the longest first.
  using Table = std::array<std::vector<AddedToken>, 256>;
  Table raw_, normalized_;
};

}  // namespace sagelab
