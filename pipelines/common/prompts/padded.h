// SPDX-License-Identifier: Apache-2.0
// Texts of which each has its own number of rows.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "pipelines/pipeline.h"

namespace sagelab {

// texts [1, n, C] of [negative,] positive -> embeds [B, longest, C] with zeros behind the shorter one, and
// lengths.
Conditioning conditioning_of_padded(const std::vector<at::Tensor>& texts, const at::Device& device);

}  // namespace sagelab
