// SPDX-License-Identifier: Apache-2.0
// RoPE of tokens on a grid of frames, rows and columns, columns fastest.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string>

#include "attention/joint.h"
#include "pipelines/core/config.h"

namespace sagelab {

// Tables are made in fp32, operation by operation as in diffusers' get_1d_rotary_pos_embed, and on the CPU,
// once a run, so that every device sees the same bits.
struct RotaryAxis {
  at::Tensor cos, sin;  // [positions, dim / 2]
};
// positions fp32.
RotaryAxis rotary_axis(const at::Tensor& positions, int64_t dim, double theta);

// Tables of `before` + grid + `after` rows, where those beside the grid are not turned. A head's channels are
// the axes', in order.
attention::Rope grid_rope(const std::array<RotaryAxis, 3>& axes, int64_t before, int64_t after);

// The key's value: a head's channels for each of three coordinates. Throws sagelab::Error naming file and key
// where they are no even numbers or do not add up to head_dim.
std::array<int64_t, 3> rope_dims_of(Config& config, const std::string& key,
                                    const std::array<int64_t, 3>& fallback, int64_t head_dim);

}  // namespace sagelab
