// SPDX-License-Identifier: Apache-2.0
// The parts of the position tables that the transformer needs inside a forward.
#pragma once

#include <ATen/core/Tensor.h>

#include "pipelines/cogvideox/config.h"

namespace sagelab::cogvideox {

// Latents, before patching: frames of height x width, and the text rows in front of them.
struct Extent {
  int64_t text_len = 0, frames = 0, height = 0, width = 0;
};
struct Grid {
  int64_t frames = 0, height = 0, width = 0;
  int64_t tokens() const { return frames * height * width; }
};
Grid grid_of(const TransformerConfig& config, const Extent& extent);

// Throws c10::Error where the latents do not divide into patches, sagelab::Error where the model has no
// positions for such sizes: a grid beyond the base grid (1.5), another size than a learned table's, another
// text length than a table's.
void check_positions(const TransformerConfig& config, const Extent& extent);

// Adds the sin-cos table to video rows [B, frames, height, width, D] in place, each element rounded once. The
// three axes are added as they are: the whole table (as large as the rows) is never made.
void add_sincos_(const at::Tensor& video, const TransformerConfig& config);

// True where a forward of these sizes adds the learned table. diffusers falls back to sin-cos where only the
// number of frames differs.
bool uses_learned_table(const TransformerConfig& config, const Extent& extent);

}  // namespace sagelab::cogvideox
