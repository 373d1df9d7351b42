// SPDX-License-Identifier: Apache-2.0
// Peaks of encoding one prompt, bytes beside the encoder's own weights.
#pragma once

#include <cstdint>

#include "pipelines/text/clip/text_encoder.h"
#include "pipelines/text/llama/text_encoder.h"
#include "pipelines/text/t5.h"

namespace sagelab {

int64_t t5_encode_bytes(const T5Config& config, int64_t rows, const Target& target);
int64_t clip_encode_bytes(const ClipTextConfig& config, int64_t rows, const Target& target);
int64_t llama_encode_bytes(const LlamaConfig& config, int64_t rows, const Target& target);

}  // namespace sagelab
