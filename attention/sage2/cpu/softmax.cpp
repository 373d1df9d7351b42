// SPDX-License-Identifier: Apache-2.0
// Compiled for several vector widths, chosen when the program starts, and with OpenMP's simd loops, which
// alone may reorder a sum.
#include "attention/sage2/cpu/softmax.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define SAGELAB_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SAGELAB_CLONES
#endif

namespace sagelab::attention::sage2 {

namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// 2^x to 1e-7, 0 below 2^-126. x <= 127.
[[gnu::always_inline]] inline float exp2_of(float x) {
  x = x > -127.f ? x : -127.f;
  const float shifted = x + 12582912.f;  // its low bits are x rounded to an integer
  const float f = x - (shifted - 12582912.f);
  float p = 0.00015453163359779865f;
  p = p * f + 0.0013390863314270973f;
  p = p * f + 0.009618083015084267f;
  p = p * f + 0.055503569543361664f;
  p = p * f + 0.24022650718688965f;
  p = p * f + 0.6931471824645996f;
  p = p * f + 1.f;
  return p * std::bit_cast<float>((std::bit_cast<uint32_t>(shifted) + 127u) << 23);
}

// To kBits of mantissa, half to even, with subnormals below 2^kLeast: what is added makes the unit of the
// last place the unit of the type.
template <int kBits, int kLeast>
[[gnu::always_inline]] inline float round_to(float x) {
  const int32_t exponent = std::bit_cast<int32_t>(x) & 0x7f800000;
  const int32_t least = (127 + kLeast) << 23;
  const float shift =
      std::bit_cast<float>(((exponent > least ? exponent : least) + ((23 - kBits) << 23)) | 0x400000);
  return (x + shift) - shift;
}
[[gnu::always_inline]] inline float round_e4m3(float x) {
  const float y = round_to<3, -6>(x);
  return y < 448.f ? y : 448.f;
}
[[gnu::always_inline]] inline float round_half(float x) {
  return round_to<10, -14>(x);
}

// The largest score of a row in log2 units. With delta the scores become the units.
template <bool kDelta>
[[gnu::always_inline]] inline float row_maximum(const ScoreTile& t, float* s, float q_scale, int seen) {
  float most = kNever;
  const float *k_scale = t.k_scale, *delta = t.delta;
  if (kDelta) {
#pragma omp simd reduction(max : most)
    for (int j = 0; j < seen; ++j) {
      s[j] = s[j] * (q_scale * k_scale[j]) + delta[j];
      most = s[j] > most ? s[j] : most;
    }
  } else {
#pragma omp simd reduction(max : most)
    for (int j = 0; j < seen; ++j) {
      const float x = s[j] * (q_scale * k_scale[j]);
      most = x > most ? x : most;
    }
  }
  return most;
}

// Probabilities of a row and their sum.
template <Pv kPv, bool kDelta>
[[gnu::always_inline]] inline float row_exponentials(const ScoreTile& t, float* s, float q_scale, int seen,
                                                     float most) {
  float shift = most - t.offset;  // rounded up, so that P stays within its range where scores are huge
  if (double(most) - double(t.offset) > double(shift))
    shift = std::nextafter(shift, std::numeric_limits<float>::infinity());
  const bool in_fp32 = t.sum == Sum::Fp32;
  const float* k_scale = t.k_scale;
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int j = 0; j < seen; ++j) {
    const float p = exp2_of(kDelta ? s[j] - shift : s[j] * (q_scale * k_scale[j]) - shift);
    const float r = kPv == Pv::Fp16 ? round_half(p) : round_e4m3(p);
    sum += in_fp32 ? p : r;
    s[j] = r;
  }
  for (int j = seen; j < t.keys; ++j) s[j] = 0;
  return sum;
}

template <Pv kPv, bool kDelta>
[[gnu::always_inline]] inline void softmax_rows(const ScoreTile& t) {
  for (int r = 0; r < t.rows; ++r) {
    float* s = t.scores + int64_t{r} * t.keys;
    const int seen = t.seen[r];
    if (seen == 0) {
      t.rescale[r] = 1;
      std::fill_n(s, t.keys, 0.f);
      continue;
    }
    const float old = t.most[r], here = row_maximum<kDelta>(t, s, t.q_scale[r], seen);
    const float most = here > old + t.slack ? here : old;
    t.rescale[r] = exp2_of(old - most);
    t.sums[r] = t.sums[r] * t.rescale[r] + row_exponentials<kPv, kDelta>(t, s, t.q_scale[r], seen, most);
    t.most[r] = most;
  }
}

SAGELAB_CLONES void softmax_half(const ScoreTile& t) {
  t.delta ? softmax_rows<Pv::Fp16, true>(t) : softmax_rows<Pv::Fp16, false>(t);
}
SAGELAB_CLONES void softmax_e4m3(const ScoreTile& t) {
  t.delta ? softmax_rows<Pv::Fp8, true>(t) : softmax_rows<Pv::Fp8, false>(t);
}

}  // namespace

void softmax(const ScoreTile& tile) {
  tile.pv == Pv::Fp16 ? softmax_half(tile) : softmax_e4m3(tile);
}

SAGELAB_CLONES void accumulate(const Accumulation& a) {
  const float* v_scale = a.v_scale;
  for (int r = 0; r < a.rows; ++r) {
    float* o = a.result + int64_t{r} * a.dim;
    const float* x = a.product + int64_t{r} * a.dim;
    const float rescale = a.rescale[r];
    if (v_scale) {
#pragma omp simd
      for (int d = 0; d < a.dim; ++d) o[d] = o[d] * rescale + x[d] * v_scale[d];
    } else {
#pragma omp simd
      for (int d = 0; d < a.dim; ++d) o[d] = o[d] * rescale + x[d];
    }
  }
}

SAGELAB_CLONES void accumulate_half(float* sum, const float* product, int count) {
#pragma omp simd
  for (int i = 0; i < count; ++i) sum[i] = round_half(sum[i] + product[i]);
}

SAGELAB_CLONES void exp2_all(float* x, int count) {
#pragma omp simd
  for (int i = 0; i < count; ++i) x[i] = exp2_of(x[i]);
}
SAGELAB_CLONES void round_e4m3_all(float* x, int count) {
#pragma omp simd
  for (int i = 0; i < count; ++i) x[i] = round_e4m3(x[i]);
}
SAGELAB_CLONES void round_half_all(float* x, int count) {
#pragma omp simd
  for (int i = 0; i < count; ++i) x[i] = round_half(x[i]);
}

}  // namespace sagelab::attention::sage2
