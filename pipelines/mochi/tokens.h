// SPDX-License-Identifier: Apache-2.0
// How a video becomes tokens: patches of latents, frame by frame and row by row, and their positions.
#pragma once

#include <ATen/core/Tensor.h>

#include "pipelines/mochi/config.h"
#include "pipelines/video/grid.h"

namespace sagelab::mochi {

// Of latents [B, C, T, h, w]. Throws c10::Error where they do not divide into patches.
Grid grid_of(const TransformerConfig& config, const at::Tensor& latents);
// [B, C, T, h, w] -> [B, tokens, C * patch_area], channels of a token in the order (C, y, x).
at::Tensor pack(const TransformerConfig& config, const at::Tensor& latents);
// The way back, but from (y, x, C): the model's last linear has another order than its first. Throws
// c10::Error where the tokens are not the grid's.
at::Tensor unpack(const TransformerConfig& config, const at::Tensor& tokens, const Grid& grid);

// fp32 [tokens, 3] on the device: frame, row and column, of which the last two are measured from the middle,
// in units that give every grid the area of 192 x 192 (diffusers MochiRoPE). Made on the CPU, operation by
// operation as there, so that every device sees the same bits.
at::Tensor positions_of(const Grid& grid, at::Device device);

}  // namespace sagelab::mochi
