// SPDX-License-Identifier: Apache-2.0
// Text encoders in single files: under transformers' own names, in files of several components behind the
// prefixes that ComfyUI gives them.
#pragma once

#include "pipelines/core/checkpoint/original.h"

namespace sagelab {

const OriginalNames& original_t5_names();
const OriginalNames& original_clip_l_names();
const OriginalNames& original_clip_g_names();

}  // namespace sagelab
