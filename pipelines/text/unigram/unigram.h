// SPDX-License-Identifier: Apache-2.0
// The Unigram model of one word: the pieces whose scores have the largest sum. Ties and rounding as in
// Hugging Face's `tokenizers`: sums in double from the left, and the first best predecessor stays.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sagelab {

struct Piece {
  std::string text;
  double score = 0;
};

class Unigram {
 public:
  // The index of a piece is its id. where: the file, for messages.
  // Throws sagelab::Error for an empty piece, one that occurs twice, a score that is not finite, an
  // unknown_id that is no piece.
  Unigram(std::vector<Piece> pieces, int64_t unknown_id, const std::string& where);
  Unigram(const Unigram&) = delete;
  Unigram& operator=(const Unigram&) = delete;

  // Appends the ids of one word of well-formed UTF-8. Neighbouring unknown characters give one id.
  void encode(std::string_view word, std::vector<int64_t>& ids) const;
  // -1 where there is no such piece.
  int64_t id(std::string_view piece) const;
  int64_t size() const { return int64_t(pieces_.size()); }

 private:
  struct Step;  // the best way to a byte of the word
  void extend(std::string_view word, size_t start, std::vector<Step>& best) const;

  std::vector<Piece> pieces_;
  std::vector<int32_t> sorted_;  // ids by the bytes of their pieces
  std::unordered_map<std::string_view, int32_t> ids_;
  int64_t unknown_id_;
  double unknown_score_ = 0;
};

}  // namespace sagelab
