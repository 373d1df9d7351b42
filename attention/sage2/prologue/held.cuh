// SPDX-License-Identifier: Apache-2.0
// The rows of a tile that one thread works on, in registers.
#pragma once

#include <type_traits>

#include "attention/sage2/prologue/source.cuh"

namespace sagelab::attention::sage2 {

// Two neighbouring elements, in one word.
template <class T>
struct PairOf;
template <>
struct PairOf<__nv_bfloat16> {
  using Type = __nv_bfloat162;
  static __device__ float2 wide(Type x) { return __bfloat1622float2(x); }
};
template <>
struct PairOf<__half> {
  using Type = __half2;
  static __device__ float2 wide(Type x) { return __half22float2(x); }
};

// The rows of a tile that fall to a thread: first, of the thread's own; at(n), by how many rows the n-th is
// further, the same in all threads.
template <class At>
struct Rows {
  int64_t tile, end;  // tokens of the tile
  int64_t first;
  At at;
};
template <class At>
Rows(int64_t, int64_t, int64_t, At) -> Rows<At>;

// Eight elements each of kCount rows. kPlain: without norm and rotation; they stay packed, which takes a
// quarter of the registers, and are converted anew each time. All rows are fetched before the first is looked
// at.
template <class Source, Stream kStream, int kRows, bool kPlain>
class Held {
 public:
  static constexpr int kCount = kRows;

  // Beyond the last token rows are zero.
  template <class At>
  __device__ Held(const PrologueParams& p, int batch, int head, const Rows<At>& rows) {
    Reader<Source, kStream, kPlain> fetch(p, batch, head);
    const int64_t length = kStream == Stream::Q ? p.shape.q_len : p.shape.kv_len;
    const bool whole = fetch.enter_whole(rows.tile, rows.end);
    Packed in[kRows];
    if (whole) {
      const char* from = fetch.address(rows.first);
#pragma unroll
      for (int n = 0; n < kRows; ++n) {
        uint4 words{};
        if (fetch.in_row()) words = __ldg(reinterpret_cast<const uint4*>(from + rows.at(n) * fetch.pitch()));
        in[n] = reinterpret_cast<const Packed&>(words);
      }
      real_ = ~0u;
    } else {
      Reader<Source, kStream, kPlain> each = fetch;
#pragma unroll
      for (int n = 0; n < kRows; ++n) {
        in[n] = each.fetch(rows.first + rows.at(n));
        real_ |= unsigned(rows.first + rows.at(n) < length) << n;
      }
    }
#pragma unroll
    for (int n = 0; n < kRows; ++n) {
      if constexpr (kPlain) {
        rows_[n] = reinterpret_cast<const Words&>(in[n]);
      } else {
        fetch.finish(rows_[n], in[n], rows.first + rows.at(n));
      }
    }
  }

  // Elements that are not finite are zero from now on; whether there are any.
  __device__ bool clear() {
    if constexpr (kPlain) {
      if (finite(packed_amax(0, kRows))) return false;
    }
    bool odd = false;
#pragma unroll
    for (int n = 0; n < kRows; ++n) {
#pragma unroll
      for (int i = 0; i < kVector / 2; ++i) {
        const float2 x = raw(n, i);
        odd = odd || !finite(x.x) || !finite(x.y);
        if constexpr (kPlain) {
          rows_[n].values[i] &= (finite(x.x) ? 0xffffu : 0u) | (finite(x.y) ? 0xffff0000u : 0u);
        } else {
          rows_[n][2 * i] = finite(x.x) ? x.x : 0.f, rows_[n][2 * i + 1] = finite(x.y) ? x.y : 0.f;
        }
      }
    }
    return odd;
  }

  // A vector, of which the thread's eight elements are given, is taken from every row from now on.
  __device__ void subtract(const float* vector) {
    smooth_ = true;
#pragma unroll
    for (int i = 0; i < kVector; ++i) vector_[i] = vector[i];
  }

  __device__ float subtracted(int i) const {
    return smooth_ ? vector_[i] : 0.f;
  }

  // Elements 2i and 2i + 1 of row n.
  __device__ float2 pair(int n, int i) const {
    float2 x = raw(n, i);
    if (smooth_ && (real_ >> n & 1)) x.x -= vector_[2 * i], x.y -= vector_[2 * i + 1];
    return x;
  }

  __device__ void get(float (&x)[kVector], int n) const {
#pragma unroll
    for (int i = 0; i < kVector / 2; ++i) {
      const float2 two = pair(n, i);
      x[2 * i] = two.x, x[2 * i + 1] = two.y;
    }
  }

  __device__ float amax(int n) const {
    if constexpr (kPlain) {
      if (!smooth_) return packed_amax(n, 1);
    }
    float x[kVector], most = 0;
    get(x, n);
#pragma unroll
    for (int i = 0; i < kVector; ++i) most = fmaxf(most, fabsf(x[i]));
    return most;
  }

  // Largest of each column over all rows, before anything is subtracted. Plain rows only.
  __device__ void column_amax(float (&most)[kVector]) const {
    static_assert(kPlain);
#pragma unroll
    for (int i = 0; i < kVector / 2; ++i) {
      Pair pair{};
#pragma unroll
      for (int n = 0; n < kRows; ++n) pair = __hmax2(pair, __habs2(word(n, i)));
      const float2 two = PairOf<Element>::wide(pair);
      most[2 * i] = two.x, most[2 * i + 1] = two.y;
    }
  }

 private:
  using Packed = typename Source::Packed;
  using Element = std::remove_reference_t<decltype(Packed::values[0])>;
  using Pair = typename PairOf<Element>::Type;
  struct Words {
    unsigned values[kVector / 2];
  };
  using Row = std::conditional_t<kPlain, Words, float[kVector]>;

  __device__ Pair word(int n, int i) const {
    return reinterpret_cast<const Pair&>(rows_[n].values[i]);
  }

  __device__ float2 raw(int n, int i) const {
    if constexpr (kPlain) {
      unsigned word = rows_[n].values[i];
      asm volatile("" : "+r"(word));  // or the compiler would keep all rows converted
      return PairOf<Element>::wide(reinterpret_cast<const Pair&>(word));
    } else {
      return {rows_[n][2 * i], rows_[n][2 * i + 1]};
    }
  }

  // Of `count` rows from n on; NaN if there is one among them.
  __device__ float packed_amax(int n, int count) const {
    Pair most{};
#pragma unroll
    for (int row = 0; row < count; ++row) {
#pragma unroll
      for (int i = 0; i < kVector / 2; ++i) most = __hmax2_nan(most, __habs2(word(n + row, i)));
    }
    return PairOf<Element>::wide(__hmax2_nan(most, __lowhigh2highlow(most))).x;
  }

  Row rows_[kRows];
  float vector_[kVector];
  unsigned real_ = 0;  // by bit, which rows are
  bool smooth_ = false;
};

}  // namespace sagelab::attention::sage2
