// SPDX-License-Identifier: Apache-2.0
// The rows of a tile that one thread works on, normed and rotated, in fp32.
#pragma once

#include "attention/sage2/prologue/held.cuh"

namespace sagelab::attention::sage2 {

// The larger of two, or NaN.
__device__ inline float larger_or_nan(float a, float b) {
  float c;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
  return c;
}

// Cosines, then sines, of what is not rotated.
alignas(16) static __device__ const float kNoTurn[kVector] = {1, 1, 1, 1};

// Where threads keep such rows between two looks: in shared memory, since registers hold either these or what
// it takes to make them.
template <int kRows>
struct Shelf {
  float4 halves[kRows][2][kThreads];

  __device__ void put(int n, const float (&x)[kVector]) {
    halves[n][0][threadIdx.x] = {x[0], x[1], x[2], x[3]};
    halves[n][1][threadIdx.x] = {x[4], x[5], x[6], x[7]};
  }
  __device__ void get(float (&x)[kVector], int n) const {
    const float4 a = halves[n][0][threadIdx.x], b = halves[n][1][threadIdx.x];
    x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w, x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
  }
};

// As Held, whose rows stay packed. Where all tokens of a tile are there and in one run, which is nearly
// everywhere, the steps of several rows stand side by side, without a branch in between.
template <class Source, Stream kStream, int kRows, class Kept>
class Finished {
 public:
  static constexpr int kCount = kRows;

  // Beyond the last token rows are zero. Rows are evenly spaced; a vector is taken from those of K alone.
  template <class At>
  __device__ Finished(const PrologueParams& p, int batch, int head, const Rows<At>& rows, Kept& kept)
      : kept_(kept), taken_(rows.taken) {
    Reader<Source, kStream> fetch(p, batch, head);
    if (!fetch.enter_whole(rows.tile, rows.end)) {
      one_by_one(fetch, rows);
      return;
    }
    real_ = ~0u;
    const Angles angles(fetch, kept_, p.shape.head_dim, head, rows);
    const float share = 1.f / p.shape.head_dim;
    if (fetch.run().rows.norm == sagelab::kernel::NormKind::Layer) {
      all_at_once<true>(fetch, rows, angles, share);
    } else {
      all_at_once<false>(fetch, rows, angles, share);
    }
  }

  // Elements that are not finite are as zeros were before anything was taken from them.
  __device__ void clear() {
    look_again([&](float x, int n, int i) {
      const float was = fmaf(taken(i), real(n), x);  // but for a rounding; the head is computed anew
      return finite(was) ? x : -taken(i) * real(n);
    });
  }
  // A vector, of which the thread's eight elements are given, is taken from every row.
  __device__ void subtract(const float* vector) {
    look_again([&](float x, int n, int i) { return fmaf(-vector[i], real(n), x); });
  }

  __device__ void get(float (&x)[kVector], int n) const { kept_.get(x, n); }

  // Largest magnitude of row n; NaN, or more than is finite, where an element is not finite.
  __device__ float amax(int n) const { return amax_[n]; }
  // Of all rows; false where an element was not finite.
  __device__ bool amax(float& most) const {
    most = 0;
#pragma unroll
    for (int n = 0; n < kRows; ++n) most = fmaxf(most, amax_[n]);
    return finite(lying_);
  }

 private:
  using From = Reader<Source, kStream>;

  // Cosines and sines of this thread's pairs: in memory, those of the next row `pitch` further; or computed,
  // where the row itself will be kept.
  struct Angles {
    const float *cos = kNoTurn, *sin = kNoTurn + kVector / 2;
    int64_t pitch = 0;
    bool computed = false;

    template <class At>
    __device__ Angles(const From& fetch, Kept& kept, int head_dim, int head, const Rows<At>& rows) {
      const sagelab::kernel::Rotation& r = fetch.run().rotation;
      if (!fetch.run().rows.rotate) return;
      const int half = head_dim / 2, column = fetch.in_row() ? Source::column() : 0;
      const int64_t token = rows.first - fetch.run().begin;
      if (r.cos) {
        cos = r.cos + token * half + column / 2, sin = r.sin + token * half + column / 2;
        pitch = int64_t(rows.at(1)) * half;
        return;
      }
      computed = true;
#pragma unroll 1
      for (int n = 0; n < kRows; ++n) {
        float x[kVector];
        sagelab::kernel::turn(x, r, {0, token + rows.at(n), head, column, head_dim, true});
        kept.put(n, x);
      }
    }
    // Those of row n, from memory.
    __device__ void read(float (&turn)[kVector], int n) const {
      const float4 c = __ldg(reinterpret_cast<const float4*>(cos + n * pitch)),
                   s = __ldg(reinterpret_cast<const float4*>(sin + n * pitch));
      turn[0] = c.x, turn[1] = c.y, turn[2] = c.z, turn[3] = c.w;
      turn[4] = s.x, turn[5] = s.y, turn[6] = s.z, turn[7] = s.w;
    }
  };

  // share: of an element in a mean.
  template <bool kLayer, class At>
  __device__ void all_at_once(const From& fetch, const Rows<At>& rows, const Angles& angles, float share) {
    const sagelab::kernel::Rows& run = fetch.run().rows;
    const bool normed = run.norm != sagelab::kernel::NormKind::None, in_row = fetch.in_row();
    const float eps = run.eps;
    const char* from = fetch.address(rows.first);
    uint4 in[kRows]{};
    if (in_row) {
#pragma unroll
      for (int n = 0; n < kRows; ++n)
        in[n] = __ldg(reinterpret_cast<const uint4*>(from + rows.at(n) * fetch.pitch()));
    }
    float weight[kVector], bias[kVector], taken[kVector];
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      weight[i] = normed && run.weight && in_row ? run.weight[Source::column() + i] : 1.f;
      bias[i] = normed && run.bias && in_row ? run.bias[Source::column() + i] : 0.f;
      taken[i] = this->taken(i);
    }
    float next[kVector];
    angles.read(next, 0);
#pragma unroll
    for (int n = 0; n < kRows; ++n) {
      const auto& packed = reinterpret_cast<const typename Source::Packed&>(in[n]);
      float x[kVector], square = 0, turn[kVector];
#pragma unroll
      for (int i = 0; i < kVector; ++i) x[i] = packed[i], turn[i] = next[i];
      if (n + 1 < kRows) angles.read(next, n + 1);
      if constexpr (kLayer) {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < kVector; ++i) sum += x[i];
        const float mean = over_row(sum) * (in_row ? share : 0.f);  // lanes beyond the row keep zeros
#pragma unroll
        for (int i = 0; i < kVector; ++i) x[i] -= mean;
      }
#pragma unroll
      for (int i = 0; i < kVector; ++i) square += x[i] * x[i];
      const float root = rsqrtf(over_row(square) * share + eps), inverse = normed ? root : 1.f;
#pragma unroll
      for (int i = 0; i < kVector; ++i) x[i] = fmaf(x[i] * inverse, weight[i], bias[i]);
      if (angles.computed) kept_.get(turn, n);
      sagelab::kernel::rotate_pairs(x, turn);
      keep(n, x, taken);
    }
  }

  // Of the lanes of a row, in all of them; unlike row_sum, where all lanes of the warp take the same way.
  __device__ static float over_row(float x) {
#pragma unroll
    for (int offset = Source::kDim / kVector / 2; offset > 0; offset /= 2)
      x += __shfl_xor_sync(0xffffffffu, x, offset);
    asm volatile("" : "+f"(x));  // or the compiler would make a branch of what is not always wanted
    return x;
  }

  __device__ void keep(int n, float (&x)[kVector], const float (&taken)[kVector]) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      lying_ = larger_or_nan(lying_, fabsf(x[i]));
      if constexpr (kStream == Stream::K) x[i] = fmaf(-taken[i], real(n), x[i]);
    }
    put(n, x);
  }
  __device__ void put(int n, const float (&x)[kVector]) {
    amax_[n] = 0;
#pragma unroll
    for (int i = 0; i < kVector; ++i) amax_[n] = larger_or_nan(amax_[n], fabsf(x[i]));
    kept_.put(n, x);
  }

  // Where a run or all tokens end within the tile. Slow, short, and rare.
  template <class At>
  __device__ void one_by_one(From& fetch, const Rows<At>& rows) {
    float taken[kVector];
#pragma unroll
    for (int i = 0; i < kVector; ++i) taken[i] = this->taken(i);
#pragma unroll 1
    for (int n = 0; n < kRows; ++n) {
      const int64_t token = rows.first + rows.at(n);
      float x[kVector];
      fetch.load(x, token);
      real_ |= unsigned(fetch.has(token)) << n;
      kept_.put(n, x);
    }
#pragma unroll
    for (int n = 0; n < kRows; ++n) {
      float x[kVector];
      kept_.get(x, n);
      keep(n, x, taken);
    }
  }

  // f(element, row, channel) instead of each.
  template <class F>
  __device__ void look_again(F f) {
    lying_ = 0;
#pragma unroll
    for (int n = 0; n < kRows; ++n) {
      float x[kVector];
      kept_.get(x, n);
#pragma unroll
      for (int i = 0; i < kVector; ++i) x[i] = f(x[i], n, i);
      put(n, x);
    }
  }

  __device__ float taken(int i) const {
    return taken_ ? taken_[i] : 0.f;
  }
  __device__ float real(int n) const {
    return real_ >> n & 1 ? 1.f : 0.f;
  }

  Kept& kept_;
  const float* taken_;
  float amax_[kRows], lying_ = 0;  // of what is left of each row, and of all before anything was taken
  unsigned real_ = 0;              // by bit, which rows are a token's
};

}  // namespace sagelab::attention::sage2
