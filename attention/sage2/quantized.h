// SPDX-License-Identifier: Apache-2.0
// The quantized operands of a call as tensors (layout.h), and how the CPU makes them: the oracle of the
// prologue kernel.
#pragma once

#include <ATen/core/Tensor.h>

#include "attention/attention.h"
#include "attention/sage2/settings.h"

namespace sagelab::attention::sage2 {

// D is padded to 64 or 128, as in layout.h: the means are zero beyond the head dimension.
struct Quantized {
  at::Tensor q, k, v;                    // uint8 [B, heads, tiles, rows, row bytes]
  at::Tensor q_scale, k_scale, v_scale;  // fp32
  at::Tensor k_mean, v_mean;             // fp32 [B, Hkv, D]; undefined where nothing is subtracted
  at::Tensor q_mean, delta;              // fp32, with smooth_q
  at::Tensor q_shift;                    // fp32 [B, H, Sq], where the LSE is asked for and k_mean is defined
  at::Tensor q_odd, kv_odd;              // uint8 [B, heads, tiles]
};

// Everything the settings call for, uninitialised, on the problem's device.
Quantized allocate(const Problem& problem, const Settings& settings, bool want_lse);

// The vectors to subtract, where a test brings its own.
struct Means {
  at::Tensor k, v;  // fp32 [B, Hkv, D], not padded; undefined: computed
};
// q [B, Sq, H, D], k and v [B, Skv, Hkv, D]: fp32 on the CPU, norm and RoPE applied. For each group
// (layout.h) of values x that share a scale, in fp32, rounding half to even, amax over the finite |x| (the
// product that becomes an integer is exact):
//   int8: r = 127, int4: r = 7, e4m3: r = 448 (2.25 with Fp8Half); inverse = r / amax, value = round(x *
//   inverse), scale = amax / r; where amax < 1e-35, inverse and scale are 0 fp16: scale = 1, or the power of
//   two that brings amax to at most 32768; value = fp16(x / scale)
// With VScale::Sampled amax is that of sampled tokens times kVMargin; in heads where a value may reach
// beyond, that of all tokens. A value that is not finite, or beyond kLargest, counts as 0 and marks its tile
// odd.
Quantized quantize(const Call& call, const Settings& settings, const Means* means = nullptr);

}  // namespace sagelab::attention::sage2
