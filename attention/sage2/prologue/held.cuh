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
  static __device__ float2 wide(unsigned x) {
    return {__uint_as_float(x << 16), __uint_as_float(x & 0xffff0000)};
  }
};
template <>
struct PairOf<__half> {
  using Type = __half2;
  static __device__ float2 wide(unsigned x) { return __half22float2(reinterpret_cast<const Type&>(x)); }
};

// The rows of a tile that fall to a thread: first, of the thread's own; at(n), by how many rows the n-th is
// further, the same in all threads. taken: a vector, of which the thread's eight elements are given, that is
// taken from every row; null: none.
template <class At>
struct Rows {
  int64_t tile, end;  // tokens of the tile
  int64_t first;
  At at;
  const float* taken;
};
template <class At>
Rows(int64_t, int64_t, int64_t, At, const float*) -> Rows<At>;

// Eight elements each of kCount rows as they come, without norm and rotation. They stay packed, which takes a
// quarter of the registers, and are converted anew each time. All rows are fetched before the first is looked
// at. kShifted: a vector may be taken from them.
template <class Source, Stream kStream, int kRows, bool kShifted = true>
class Held {
 public:
  static constexpr int kCount = kRows;

  // Beyond the last token rows are zero.
  template <class At>
  __device__ Held(const PrologueParams& p, int batch, int head, const Rows<At>& rows) {
    if constexpr (kShifted) subtract(rows.taken);
    Reader<Source, kStream> fetch(p, batch, head);
    if (fetch.enter_whole(rows.tile, rows.end)) {
      const char* from = fetch.address(rows.first);
#pragma unroll
      for (int n = 0; n < kRows; ++n) {
        uint4 words{};
        if (fetch.in_row()) words = __ldg(reinterpret_cast<const uint4*>(from + rows.at(n) * fetch.pitch()));
        rows_[n] = reinterpret_cast<const Words&>(words);
      }
      real_ = ~0u;
    } else {
#pragma unroll
      for (int n = 0; n < kRows; ++n) {
        const int64_t token = rows.first + rows.at(n);
        const Packed in = fetch.fetch(token);
        rows_[n] = reinterpret_cast<const Words&>(in);
        real_ |= unsigned(fetch.has(token)) << n;
      }
    }
  }

  // Elements that are not finite are zero from now on.
  __device__ void clear() {
#pragma unroll
    for (int n = 0; n < kRows; ++n) {
#pragma unroll
      for (int i = 0; i < kVector / 2; ++i) {
        const float2 x = raw(n, i);
        rows_[n].values[i] &= (finite(x.x) ? 0xffffu : 0u) | (finite(x.y) ? 0xffff0000u : 0u);
      }
    }
  }

  // A vector, of which the thread's eight elements are given, is taken from every row from now on; null:
  // none.
  __device__ void subtract(const float* vector) {
    static_assert(kShifted);
#pragma unroll
    for (int i = 0; i < kVector; ++i) vector_[i] = vector ? vector[i] : 0.f;
  }
  __device__ float subtracted(int i) const {
    return vector_[i];
  }

  // Whether a row is a token's, as a factor.
  __device__ float real(int n) const {
    return real_ >> n & 1 ? 1.f : 0.f;
  }

  // Elements 2i and 2i + 1 of row n. To be called with the row's real(n).
  __device__ float2 pair(int n, int i, float real) const {
    float2 x = raw(n, i);
    if constexpr (kShifted) x = {fmaf(-vector_[2 * i], real, x.x), fmaf(-vector_[2 * i + 1], real, x.y)};
    return x;
  }

  __device__ void get(float (&x)[kVector], int n) const {
    const float factor = real(n);
#pragma unroll
    for (int i = 0; i < kVector / 2; ++i) {
      const float2 two = pair(n, i, factor);
      x[2 * i] = two.x, x[2 * i + 1] = two.y;
    }
  }

  // Largest magnitude of each column as the rows lie, before anything is taken from them, and of what is left
  // of the tokens' rows: rounding keeps order, so that the extremes tell. False, and nothing said, where
  // there are elements that are not finite.
  __device__ bool column_amax(float (&lying)[kVector], float (&left)[kVector]) const {
    float most[kVector], least[kVector];
    if (!extremes(most, least)) return false;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      lying[i] = fmaxf(fabsf(most[i]), fabsf(least[i]));
      left[i] = real_ == 0 ? 0.f : fmaxf(fabsf(most[i] - vector_[i]), fabsf(least[i] - vector_[i]));
    }
    return true;
  }

  // Largest magnitude of all that is left; false likewise.
  __device__ bool amax(float& most) const {
    float lying[kVector], left[kVector];
    if (!column_amax(lying, left)) return false;
    most = 0;
#pragma unroll
    for (int i = 0; i < kVector; ++i) most = fmaxf(most, left[i]);
    return true;
  }

  // Largest magnitude of row n; NaN, or more than is finite, where an element is not finite.
  __device__ float amax(int n) const {
    if constexpr (!kShifted) {
      Pair most = abs(n, 0);
#pragma unroll
      for (int i = 1; i < kVector / 2; ++i) most = __hmax2_nan(most, abs(n, i));
      return wide(__hmax2_nan(most, __lowhigh2highlow(most))).x;
    } else {
      float x[kVector], most = 0;
      get(x, n);
      bool odd = false;
#pragma unroll
      for (int i = 0; i < kVector; ++i) most = fmaxf(most, fabsf(x[i])), odd = odd || !finite(x[i]);
      return odd ? INFINITY : most;
    }
  }

 private:
  using Packed = typename Source::Packed;
  using Element = std::remove_reference_t<decltype(Packed::values[0])>;
  using Pair = typename PairOf<Element>::Type;
  struct Words {
    unsigned values[kVector / 2];
  };

  __device__ static float2 wide(Pair x) {
    return PairOf<Element>::wide(reinterpret_cast<const unsigned&>(x));
  }
  __device__ Pair word(int n, int i) const {
    return reinterpret_cast<const Pair&>(rows_[n].values[i]);
  }
  __device__ Pair abs(int n, int i) const {
    const unsigned bits = rows_[n].values[i] & 0x7fff7fff;
    return reinterpret_cast<const Pair&>(bits);
  }

  __device__ float2 raw(int n, int i) const {
    unsigned word = rows_[n].values[i];
    asm volatile("" : "+r"(word));  // or the compiler would keep all rows converted
    return PairOf<Element>::wide(word);
  }

  // Of each column of the tokens' rows, zeros where there are none; false if an element is not finite.
  __device__ bool extremes(float (&most)[kVector], float (&least)[kVector]) const {
    return real_ == ~0u ? packed_extremes<true>(most, least) : packed_extremes<false>(most, least);
  }

  template <bool kAll>
  __device__ bool packed_extremes(float (&most)[kVector], float (&least)[kVector]) const {
    Pair magnitude{};
#pragma unroll
    for (int i = 0; i < kVector / 2; ++i) {
      Pair high = word(0, i), low = high;
#pragma unroll
      for (int n = 1; n < kRows; ++n) {
        const Pair x = kAll || (real_ >> n & 1) ? word(n, i) : word(0, i);
        high = __hmax2_nan(high, x), low = __hmin2_nan(low, x);
      }
      magnitude = __hmax2_nan(magnitude, __hmax2_nan(__habs2(high), __habs2(low)));
      const float2 highs = wide(high), lows = wide(low);
      most[2 * i] = highs.x, most[2 * i + 1] = highs.y, least[2 * i] = lows.x, least[2 * i + 1] = lows.y;
    }
    return finite(wide(__hmax2_nan(magnitude, __lowhigh2highlow(magnitude))).x);
  }

  Words rows_[kRows];
  float vector_[kVector];
  unsigned real_ = 0;  // by bit, which rows are
};

}  // namespace sagelab::attention::sage2
