// SPDX-License-Identifier: Apache-2.0
// Stable Diffusion 3's transformer as Stability AI name it (sd3.5_large.safetensors): diffusers'
// convert_sd3_transformer_checkpoint_to_diffusers, read backwards.
#pragma once

#include <cstdint>

#include "pipelines/core/checkpoint/original.h"

namespace sagelab::sd3 {

// Depends on the number of layers: the last one's norm of the text has a scale and a shift alone, in the
// other order than theirs. Lives as long as the program: a file that is being read goes on using its rules.
const OriginalNames& original_names(int64_t layers);

}  // namespace sagelab::sd3
