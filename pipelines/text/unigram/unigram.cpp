// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/unigram/unigram.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "attention/error.h"
#include "pipelines/text/unicode/unicode.h"

namespace sagelab {
namespace {

constexpr double kUnknownPenalty = 10;
constexpr size_t kUnreached = size_t(-1);

}  // namespace

struct Unigram::Step {
  int32_t id = 0;
  double score = 0;
  size_t start = kUnreached;  // where its piece starts

  void offer(int32_t new_id, double new_score, size_t new_start) {
    if (start == kUnreached || new_score > score) *this = {new_id, new_score, new_start};
  }
};

Unigram::Unigram(std::vector<Piece> pieces, int64_t unknown_id, const std::string& where)
    : pieces_(std::move(pieces)), sorted_(pieces_.size()), unknown_id_(unknown_id) {
  if (unknown_id < 0 || unknown_id >= size())
    throw Error(fmt::format("{}: the unknown piece is number {} of {} pieces", where, unknown_id, size()));
  double lowest = pieces_[0].score;
  ids_.reserve(pieces_.size());
  for (int64_t i = 0; i < size(); ++i) {
    const Piece& piece = pieces_[i];
    if (piece.text.empty()) throw Error(fmt::format("{}: piece {} is empty", where, i));
    if (!std::isfinite(piece.score))
      throw Error(fmt::format("{}: piece {} (\"{}\") has the score {}", where, i, piece.text, piece.score));
    const auto [first, added] = ids_.emplace(piece.text, int32_t(i));
    if (!added)
      throw Error(fmt::format("{}: pieces {} and {} are both \"{}\"", where, first->second, i, piece.text));
    lowest = std::min(lowest, piece.score);
  }
  unknown_score_ = lowest - kUnknownPenalty;
  std::iota(sorted_.begin(), sorted_.end(), 0);
  std::sort(sorted_.begin(), sorted_.end(),
            [&](int32_t a, int32_t b) { return pieces_[a].text < pieces_[b].text; });
}

int64_t Unigram::id(std::string_view piece) const {
  const auto found = ids_.find(piece);
  return found == ids_.end() ? -1 : found->second;
}

// Offers every piece that word continues with at start to the byte where that piece ends.
void Unigram::extend(std::string_view word, size_t start, std::vector<Step>& best) const {
  const double so_far = best[start].score;
  const size_t character = unicode::code_point(word, start).bytes;
  bool single = false;                                 // some piece is just this character
  auto first = sorted_.begin(), last = sorted_.end();  // the pieces that share what was read
  for (size_t depth = 0; start + depth < word.size(); ++depth) {
    const auto byte = uint8_t(word[start + depth]);
    const auto at_depth = [&](int32_t id) {
      const std::string& text = pieces_[id].text;
      return depth < text.size() ? int(uint8_t(text[depth])) : -1;
    };
    first = std::partition_point(first, last, [&](int32_t id) { return at_depth(id) < byte; });
    last = std::partition_point(first, last, [&](int32_t id) { return at_depth(id) == byte; });
    if (first == last) break;
    if (pieces_[*first].text.size() != depth + 1) continue;  // a piece sorts before its continuations
    best[start + depth + 1].offer(*first, pieces_[*first].score + so_far, start);
    single = single || depth + 1 == character;
  }
  if (!single) best[start + character].offer(int32_t(unknown_id_), unknown_score_ + so_far, start);
}

void Unigram::encode(std::string_view word, std::vector<int64_t>& ids) const {
  std::vector<Step> best(word.size() + 1);
  for (size_t at = 0; at < word.size(); at += unicode::code_point(word, at).bytes) extend(word, at, best);

  const size_t before = ids.size();
  for (size_t end = word.size(); end > 0;) {
    const Step& step = best[end];
    size_t start = step.start;
    if (step.id == unknown_id_)
      while (start > 0 && best[start].id == unknown_id_) start = best[start].start;
    // A run of unknown characters may spell a piece of its own.
    const int64_t found = step.id == unknown_id_ ? id(word.substr(start, end - start)) : step.id;
    ids.push_back(found < 0 ? unknown_id_ : found);
    end = start;
  }
  std::reverse(ids.begin() + std::ptrdiff_t(before), ids.end());
}

}  // namespace sagelab
