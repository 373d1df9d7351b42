// SPDX-License-Identifier: Apache-2.0
// How a video becomes tokens: patches of latents, frame by frame and row by row, and their positions.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "attention/joint.h"
#include "pipelines/hunyuanvideo/config.h"
#include "pipelines/video/grid.h"

namespace sagelab::hunyuanvideo {

// Of latents [B, C, T, h, w]. Throws c10::Error where they do not divide into patches.
Grid grid_of(const TransformerConfig& config, const at::Tensor& latents);
// [B, C, T, h, w] -> [B, tokens, C * patch_volume], channels of a token in the order (C, t, y, x). Throws as
// grid_of does.
at::Tensor pack(const TransformerConfig& config, const at::Tensor& latents);
// The way back, whatever C is. Throws c10::Error where the tokens are not the grid's.
at::Tensor unpack(const TransformerConfig& config, const at::Tensor& tokens, const Grid& grid);

// cos and sin fp32 [tokens + text_len, head_dim/2] on the device: a patch is at (frame, row, column), the
// text's rows behind them are not turned.
attention::Rope rope_table(const TransformerConfig& config, const Grid& grid, int64_t text_len,
                           at::Device device);

}  // namespace sagelab::hunyuanvideo
