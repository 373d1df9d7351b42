// SPDX-License-Identifier: Apache-2.0
// Rows of a text with one that stands for all of them: what picture models are conditioned on.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "pipelines/pipeline.h"

namespace sagelab {

struct PooledRow {
  at::Tensor pooled, embeds;  // [1, C], [1, L, C'] on the host
  bool clip_cut = false, t5_cut = false;
};

// Of [negative,] positive.
Conditioning conditioning_of(const std::vector<const PooledRow*>& rows, const at::Device& device);

struct TextLimits {
  int64_t t5 = 0, clip = 0;  // in tokens
};
// Says of each side what its encoders do not read.
void tell_what_is_cut(const std::vector<const PooledRow*>& rows, const TextLimits& limits,
                      const RunContext& run);

}  // namespace sagelab
