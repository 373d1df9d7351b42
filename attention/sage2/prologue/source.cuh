// SPDX-License-Identifier: Apache-2.0
// What the kernels of the prologue share: where a token's row is, and how threads divide a tile.
#pragma once

#include <cfloat>
#include <cmath>

#include "attention/device/row.cuh"
#include "attention/sage2/kernels.h"

namespace sagelab::attention::sage2 {

using sagelab::kernel::finish_row;
using sagelab::kernel::kVector;
using sagelab::kernel::Pack;
using sagelab::kernel::RowAt;

constexpr int kThreads = 256;

enum class Stream { Q, K, V };

// kLanes threads of 8 channels share a row; kThreads / kLanes rows are worked on at once.
template <class T, int kLanes>
struct Source {
  const PrologueParams& p;

  using Packed = Pack<T>;
  static constexpr int kDim = kLanes * kVector;
  static constexpr int kRowsAtOnce = kThreads / kLanes;
  static __device__ int column() { return threadIdx.x % kLanes * kVector; }
  static __device__ int row() { return threadIdx.x / kLanes; }
};

// One thread's way through the rows of a head, by ascending token. A row may be fetched and finished apart,
// by one reader each, so that many fetches are under way before the first is looked at.
template <class Source, Stream kStream>
class Reader {
 public:
  __device__ Reader(const PrologueParams& p, int batch, int head)
      : p_(p),
        batch_(batch),
        head_(head),
        run_(kStream == Stream::Q   ? p.q
             : kStream == Stream::K ? p.k
                                    : p.v),
        left_(kStream == Stream::Q ? p.q_runs : p.kv_runs),
        length_(kStream == Stream::Q ? p.shape.q_len : p.shape.kv_len) {
    enter(run_);
  }

  // Whether the tokens [first, end) are all there, and in one run, which is entered.
  __device__ bool enter_whole(int64_t first, int64_t end) {
    seek(first);
    return end <= length_ && (left_ == 1 || end <= run_[1].begin);
  }
  // Of a token of the run that was entered, where this thread's elements lie; and the bytes to the next
  // token's.
  __device__ const char* address(int64_t token) const { return first_ + (token - run_->begin) * pitch_; }
  __device__ int64_t pitch() const { return pitch_; }
  __device__ const Run& run() const { return *run_; }
  __device__ bool has(int64_t token) const { return token < length_; }
  __device__ bool in_row() const { return Source::column() < p_.shape.head_dim; }

  // As the row lies in memory; zeros beyond the last.
  __device__ typename Source::Packed fetch(int64_t token) {
    seek(token);
    uint4 in{};
    if (active(token)) in = __ldg(reinterpret_cast<const uint4*>(first_ + (token - run_->begin) * pitch_));
    return *reinterpret_cast<const typename Source::Packed*>(&in);
  }

  // In fp32, normed and rotated; zeros beyond the last row.
  __device__ void finish(float (&x)[kVector], const typename Source::Packed& in, int64_t token) {
    seek(token);
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[i] = in[i];
    if constexpr (kStream != Stream::V) {
      const RowAt at{batch_, token - run_->begin, head_, Source::column(), p_.shape.head_dim, active(token)};
      finish_row<Source::kDim / kVector>(x, run_->rows, run_->rotation, at);
    }
  }
  __device__ void load(float (&x)[kVector], int64_t token) {
    finish(x, fetch(token), token);
  }

 private:
  __device__ bool active(int64_t token) const {
    return token < length_ && Source::column() < p_.shape.head_dim;
  }
  __device__ void seek(int64_t token) {
    while (left_ > 1 && token >= run_[1].begin) enter(run_ + 1), --left_;
  }
  __device__ void enter(const Run* run) {
    using Element = decltype(Source::Packed::values);
    constexpr int64_t kBytes = sizeof(Element) / kVector;
    const sagelab::kernel::Rows& rows = run->rows;
    run_ = run, pitch_ = rows.token * kBytes;
    first_ = static_cast<const char*>(rows.data) +
             (batch_ * rows.batch + head_ * rows.head + Source::column()) * kBytes;
  }

  const PrologueParams& p_;
  int batch_, head_;
  const Run* run_;
  int left_;
  int64_t length_, pitch_;
  const char* first_;
};

__device__ inline bool finite(float x) {
  return fabsf(x) <= kLargest;
}

// What to multiply by and what to divide by so that amax becomes `range`.
struct Step {
  float inverse, scale;
};
__device__ inline Step step_of(float amax, float range) {
  if (amax < 1e-35f) return {0, 0};
  return {__fdiv_rn(range, amax), __fdiv_rn(amax, range)};
}

// fp16 needs no scale, but a power of two where values would overflow.
__device__ inline Step half_step_of(float amax) {
  float scale = 1;
  while (amax > 32768.f * scale) scale *= 2;
  return {1 / scale, scale};
}

__device__ inline Step v_step_of(float amax, Pv pv) {
  return pv == Pv::Fp16 ? half_step_of(amax) : step_of(amax, pv == Pv::Fp8 ? 448.f : 2.25f);
}

}  // namespace sagelab::attention::sage2
