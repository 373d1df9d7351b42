// SPDX-License-Identifier: Apache-2.0
// The prologue's work in pieces, in the order in which attention wants the heads (quantize.cuh, note
// [Pieces]). Made on the host.
#pragma once

#include "attention/sage2/kernels.h"

namespace sagelab::attention::sage2 {

// Division of numbers below 2^31 by what only the host knows, as a product.
class Divisor {
 public:
  explicit Divisor(unsigned by) : by_(by) {
    while (uint64_t(1) << shift_ < (uint64_t(by) << 31)) ++shift_;
    multiplier_ = unsigned(((uint64_t(1) << shift_) + by - 1) / by);
  }
  SAGELAB_HOST_DEVICE unsigned by() const { return by_; }
  SAGELAB_HOST_DEVICE unsigned quotient(unsigned x) const {
    return unsigned(uint64_t(x) * multiplier_ >> shift_);
  }

 private:
  unsigned by_, multiplier_, shift_ = 31;
};

struct Piece {
  enum Kind { KeysAndValues, Queries, End, None } kind;
  int batch, head;  // of K and V, or of Q
  unsigned tile;
  unsigned kv;  // its head of K and V among those of the batch
};

class Pieces {
 public:
  Pieces(const AttentionParams& shape, int keys)
      : heads_(unsigned(shape.kv_heads) * unsigned(shape.batch)),
        kv_tiles_(unsigned(tiles(shape.kv_len, keys))),
        q_tiles_(unsigned(tiles(shape.q_len, kQRows))),
        together_(heads_ % 4 == 0   ? 4
                  : heads_ % 2 == 0 ? 2
                                    : 1),
        kv_heads_(unsigned(shape.kv_heads)),
        group_(unsigned(shape.heads / shape.kv_heads)),
        bunch_(together_.by() * (of_head() + 1)),
        queries_(together_.by() * group_.by()) {}

  // Of a head of K and V and of its queries, beside its end.
  SAGELAB_HOST_DEVICE unsigned of_head() const { return kv_tiles_ + group_.by() * q_tiles_; }
  unsigned count() const { return heads_ * (of_head() + 1); }

  // Some heads side by side, as they lie in memory: a tile of each, then the next.
  SAGELAB_HOST_DEVICE Piece at(unsigned index) const {
    const unsigned bunch = bunch_.quotient(index), first = bunch * together_.by();
    if (first >= heads_) return {Piece::None, 0, 0, 0, 0};
    unsigned within = index - bunch * bunch_.by();
    if (within < together_.by() * kv_tiles_) {
      const unsigned tile = together_.quotient(within);
      return piece(Piece::KeysAndValues, first + within - tile * together_.by(), 0, tile);
    }
    within -= together_.by() * kv_tiles_;
    if (within < queries_.by() * q_tiles_) {
      const unsigned tile = queries_.quotient(within), head = within - tile * queries_.by(),
                     kv = group_.quotient(head);
      return piece(Piece::Queries, first + kv, head - kv * group_.by(), tile);
    }
    return piece(Piece::End, first + within - queries_.by() * q_tiles_, 0, 0);
  }

 private:
  // of_group: which of the heads of Q that share the head of K and V.
  SAGELAB_HOST_DEVICE Piece piece(Piece::Kind kind, unsigned kv, unsigned of_group, unsigned tile) const {
    const unsigned batch = kv_heads_.quotient(kv), head = kv - batch * kv_heads_.by();
    return {kind, int(batch), int(kind == Piece::Queries ? head * group_.by() + of_group : head), tile, kv};
  }

  unsigned heads_, kv_tiles_, q_tiles_;
  Divisor together_, kv_heads_, group_, bunch_, queries_;
};

}  // namespace sagelab::attention::sage2
