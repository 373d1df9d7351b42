// SPDX-License-Identifier: Apache-2.0
// SentencePiece's precompiled character map (nmt_nfkc and others), applied as Hugging Face's `tokenizers`
// does. Layout: uint32 LE size of the trie in bytes, a darts-clone double array of uint32 LE units, then the
// replacements, each ended by NUL; a value of the trie is the offset of its replacement.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sagelab {

class CharacterMap {
 public:
  CharacterMap() = default;  // changes nothing
  // where: the file, for messages. Throws sagelab::Error for a blob that is not such a map.
  CharacterMap(std::string_view blob, std::string where);

  // text: well-formed UTF-8. Throws sagelab::Error where the map points outside itself.
  std::string normalize(std::string_view text) const;

 private:
  std::optional<std::string_view> find(std::string_view chunk) const;
  std::string_view replacement(uint32_t offset) const;
  uint32_t unit(uint32_t index) const;
  [[noreturn]] void damaged(const char* what) const;

  std::vector<uint32_t> trie_;
  std::string replacements_;
  std::string where_;
};

}  // namespace sagelab
