// SPDX-License-Identifier: Apache-2.0
// Rows of q, k or v as they come, and the norm and rotation they get on the way in: plain data for kernels.
#pragma once

#include <cstdint>

#include "attention/device/scalar.h"

namespace sagelab::kernel {

enum class NormKind : int { None, Rms, Layer };

// [B, S, H] rows of head_dim elements, each row on 16 bytes. Strides in elements.
struct Rows {
  const void* data = nullptr;
  int64_t batch = 0, token = 0, head = 0;
  int heads = 0;
  NormKind norm = NormKind::None;
  const float* weight = nullptr;  // [D] or null
  const float* bias = nullptr;    // [D] or null
  float eps = 0;
  bool rotate = false;
};

// Pairs (2j, 2j+1) turn by an angle: from tables, or of positions times frequencies.
struct Rotation {
  const float* cos = nullptr;  // [tokens, D/2]; null where positions are given
  const float* sin = nullptr;
  const float* positions = nullptr;    // [tokens, 3]
  const float* frequencies = nullptr;  // [3, frequency_heads, D/2]
  int frequency_heads = 0;
};

}  // namespace sagelab::kernel
