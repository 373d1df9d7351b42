// SPDX-License-Identifier: Apache-2.0
// Attention of quantized operands on the CPU with the arithmetic of the kernels: the same tiles in the same
// order, the same rounding of probabilities, the same two levels of accumulation. Quality, not speed.
#pragma once

#include "attention/attention.h"
#include "attention/sage2/quantized.h"

namespace sagelab::attention::sage2 {

// call: what x was quantized from, fp32 on the CPU. out fp32 [B, Sq, H, D]; a query without keys gives zeros
// and an lse of -inf. Rows that quantization cannot represent (queries that are not finite; all rows of heads
// with such keys or values) are computed in fp32 from the call.
Output attend(const Quantized& x, const Call& call, const Settings& settings);

// What the tiles hold, as fp32: for tests and studies too.
struct Unpacked {
  at::Tensor q, k;  // [B, heads, tiles * rows, D]: integers
  at::Tensor v;     // [B, Hkv, tiles * rows, D]: keys in order, scale not applied
};
Unpacked unpack(const Quantized& x, const Settings& settings, int64_t head_dim);

}  // namespace sagelab::attention::sage2
