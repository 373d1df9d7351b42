// SPDX-License-Identifier: Apache-2.0
// How an image becomes tokens: 2 x 2 patches of latents, row by row, and their positions.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "attention/joint.h"
#include "pipelines/core/weights.h"
#include "pipelines/flux/config.h"

namespace sagelab::flux {

// In patches: an image is 16 x 16 pixels for each.
struct Grid {
  int64_t rows = 0, columns = 0;
  int64_t tokens() const { return rows * columns; }
};

// Latents [B, C, h, w], h and w even -> [B, (h/2)(w/2), 4C]; a token's channel is c * 4 + dy * 2 + dx. Throws
// c10::Error where they do not divide.
at::Tensor pack(const at::Tensor& latents);
// [B, rows * columns, 4C] -> [B, C, 2 rows, 2 columns]: the way back. Throws c10::Error likewise.
at::Tensor unpack(const at::Tensor& tokens, const Grid& grid);

// cos and sin fp32 [text_len + tokens, head_dim/2] on target's device: text rows are at (0, 0, 0), a patch at
// (0, row, column). target's dtype is the one that diffusers keeps positions in: bf16 rounds those beyond
// 256.
attention::Rope rope_table(const TransformerConfig& config, int64_t text_len, const Grid& grid,
                           const Target& target);

}  // namespace sagelab::flux
