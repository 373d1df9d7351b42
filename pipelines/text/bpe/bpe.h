// SPDX-License-Identifier: Apache-2.0
// Byte-level byte pair encoding (Hugging Face's `tokenizers`, model BPE behind a ByteLevel): a word's bytes
// are symbols; the pair of the lowest rank is merged, the leftmost first, until none is left.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace sagelab {

class Bpe {
 public:
  using Vocabulary = std::unordered_map<std::string, int64_t>;
  using Merges = std::vector<std::pair<std::string, std::string>>;  // by rank
  struct Options {
    std::string suffix;          // of a word's last symbol
    int64_t unknown = 0;         // the id of a byte that has none
    bool ignore_merges = false;  // a word that is in the vocabulary is not made of merges
  };
  // Throws sagelab::Error for a merge whose parts or whole are not in the vocabulary. where: the merges'
  // file, for messages.
  Bpe(Vocabulary vocabulary, const Merges& merges, const Options& options, const std::string& where);

  int64_t size() const { return int64_t(vocabulary_.size()); }
  int64_t id(const std::string& token) const;  // -1: none
  void encode(std::string_view word, std::vector<int64_t>& ids) const;

  // How GPT-2 writes a byte: printable Latin-1 as it is, the others as letters from U+0100 on.
  static std::string symbol(uint8_t byte);

 private:
  struct Merge {
    int64_t rank, id;
  };
  const Merge* merge_of(int64_t left, int64_t right) const;
  int64_t whole(std::string_view word) const;  // its id where it is in the vocabulary; -1: it is not

  Vocabulary vocabulary_;
  std::unordered_map<uint64_t, Merge> merges_;  // by both ids
  std::array<int64_t, 256> inner_, last_;       // a byte's id, inside a word and at its end
  bool ignore_merges_;
};

}  // namespace sagelab
