// SPDX-License-Identifier: Apache-2.0
// FLUX.1's transformer as Black Forest Labs name it (flux1-dev.safetensors): diffusers'
// convert_flux_transformer_checkpoint_to_diffusers, read backwards.
#pragma once

#include "pipelines/core/checkpoint/original.h"

namespace sagelab::flux {

const OriginalNames& original_names();

}  // namespace sagelab::flux
