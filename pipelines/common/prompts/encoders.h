// SPDX-License-Identifier: Apache-2.0
// What several text encoders take of which one encodes after the other.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pipelines/common/components.h"
#include "pipelines/common/outlook.h"
#include "pipelines/request.h"
#include "pipelines/text/clip/text_encoder.h"
#include "pipelines/text/t5.h"

namespace sagelab {

struct EncoderBytes {
  int64_t weights = 0, beside = 0;  // beside: the most that encoding a prompt takes more
};
// Of a component that encodes prompts of so many rows.
EncoderBytes clip_bytes(const Components& parts, const std::string& name, const ClipTextConfig& config,
                        int64_t rows, const Target& target);
EncoderBytes t5_bytes(const Components& parts, const std::string& name, const T5Config& config, int64_t rows,
                      const Target& target);
// At the peak of a request: the weights of all and the most beside them where offload is none, else the one
// that takes the most, as each is freed before the next is loaded.
EncoderBytes peak_of_encoders(const std::vector<EncoderBytes>& encoders, const Request& request);

// What a run needs by these, which every phase has the result of, `conditioning` bytes: all of encoding; of
// denoising and decoding that alone.
Needs needs_of(const Components& parts, const EncoderBytes& encoders, int64_t conditioning,
               const Target& target);

}  // namespace sagelab
