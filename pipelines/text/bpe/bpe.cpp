// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/bpe/bpe.h"

#include <fmt/format.h>

#include <functional>
#include <queue>
#include <tuple>

#include "attention/error.h"

namespace sagelab {
namespace {

uint64_t key_of(int64_t left, int64_t right) {
  return uint64_t(left) << 32 | uint64_t(right);
}

bool is_printable(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

// A word's symbols as a list, so that a merge does not move the others.
struct Symbol {
  int64_t id;
  int64_t previous, next;  // -1: none
  bool merged = false;     // into its left neighbour
};

struct Candidate {
  int64_t rank, at, id;  // id: of what the symbol at `at` and the next one become
  bool operator>(const Candidate& other) const { return std::tie(rank, at) > std::tie(other.rank, other.at); }
};

}  // namespace

std::string Bpe::symbol(uint8_t byte) {
  int letter = byte;
  if (!is_printable(byte)) {
    letter = 0x100;
    for (int b = 0; b < byte; ++b) letter += !is_printable(b);
  }
  if (letter < 0x80) return std::string(1, char(letter));
  return {char(0xC0 | letter >> 6), char(0x80 | (letter & 0x3F))};
}

Bpe::Bpe(Vocabulary vocabulary, const Merges& merges, const Options& options, const std::string& where)
    : vocabulary_(std::move(vocabulary)), ignore_merges_(options.ignore_merges) {
  merges_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const std::array<int64_t, 3> ids = {id(left), id(right), id(left + right)};
    const std::array<std::string, 3> names = {left, right, left + right};
    for (size_t i = 0; i < 3; ++i)
      if (ids[i] < 0)
        throw Error(fmt::format("{}: merge {} (\"{} {}\") needs \"{}\", which is not in the vocabulary",
                                where, rank + 1, left, right, names[i]),
                    "the two do not belong together; download the tokenizer again");
    merges_.insert_or_assign(key_of(ids[0], ids[1]), Merge{int64_t(rank), ids[2]});
  }
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text = symbol(uint8_t(byte));
    const int64_t inner = id(text), last = id(text + options.suffix);
    inner_[size_t(byte)] = inner >= 0 ? inner : options.unknown;
    last_[size_t(byte)] = last >= 0 ? last : options.unknown;
  }
}

int64_t Bpe::id(const std::string& token) const {
  const auto found = vocabulary_.find(token);
  return found == vocabulary_.end() ? -1 : found->second;
}

const Bpe::Merge* Bpe::merge_of(int64_t left, int64_t right) const {
  const auto found = merges_.find(key_of(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

int64_t Bpe::whole(std::string_view word) const {
  static const std::array<std::string, 256> kSymbols = [] {
    std::array<std::string, 256> all;
    for (size_t byte = 0; byte < 256; ++byte) all[byte] = symbol(uint8_t(byte));
    return all;
  }();
  std::string symbols;
  for (const char byte : word) symbols += kSymbols[uint8_t(byte)];
  return id(symbols);
}

void Bpe::encode(std::string_view word, std::vector<int64_t>& ids) const {
  if (const int64_t known = ignore_merges_ ? whole(word) : -1; known >= 0) {
    ids.push_back(known);
    return;
  }
  std::vector<Symbol> symbols;
  const auto n = int64_t(word.size());
  for (int64_t i = 0; i < n; ++i) {
    const auto& table = i + 1 == n ? last_ : inner_;
    symbols.push_back({table[uint8_t(word[size_t(i)])], i - 1, i + 1 < n ? i + 1 : -1});
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto consider = [&](int64_t at) {
    if (at < 0 || symbols[size_t(at)].next < 0) return;
    const Symbol& left = symbols[size_t(at)];
    if (const Merge* merge = merge_of(left.id, symbols[size_t(left.next)].id))
      queue.push({merge->rank, at, merge->id});
  };
  for (int64_t i = 0; i + 1 < n; ++i) consider(i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = symbols[size_t(best.at)];
    if (left.merged || left.next < 0) continue;
    Symbol& right = symbols[size_t(left.next)];
    const Merge* merge = merge_of(left.id, right.id);
    if (!merge || merge->id != best.id) continue;  // either was merged with another meanwhile
    left.id = best.id;
    left.next = right.next;
    right.merged = true;
    if (left.next >= 0) symbols[size_t(left.next)].previous = best.at;
    consider(left.previous);
    consider(best.at);
  }
  for (const Symbol& symbol : symbols)
    if (!symbol.merged) ids.push_back(symbol.id);
}

}  // namespace sagelab
