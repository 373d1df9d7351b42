// SPDX-License-Identifier: Apache-2.0
#include "pipelines/common/prompts/encoders.h"

#include <algorithm>

#include "pipelines/common/text_memory.h"

namespace sagelab {

EncoderBytes clip_bytes(const Components& parts, const std::string& name, const ClipTextConfig& config,
                        int64_t rows, const Target& target) {
  return {parts.bytes(name, target), clip_encode_bytes(config, rows, target) +
                                         parts.narrow_bytes(name, target, rows * config.intermediate_size)};
}

EncoderBytes t5_bytes(const Components& parts, const std::string& name, const T5Config& config, int64_t rows,
                      const Target& target) {
  return {parts.bytes(name, target),
          t5_encode_bytes(config, rows, target) + parts.narrow_bytes(name, target, rows * config.d_ff)};
}

EncoderBytes peak_of_encoders(const std::vector<EncoderBytes>& encoders, const Request& request) {
  EncoderBytes peak;
  for (const EncoderBytes& one : encoders) {
    if (request.offload == "none")
      peak = {peak.weights + one.weights, std::max(peak.beside, one.beside)};
    else if (one.weights + one.beside > peak.weights + peak.beside)
      peak = one;
  }
  return peak;
}

Needs needs_of(const Components& parts, const EncoderBytes& encoders, int64_t conditioning,
               const Target& target) {
  Needs needs;
  needs.encoders = encoders.weights;
  needs.transformer = parts.bytes("transformer", target);
  needs.vae = parts.bytes("vae", target);
  needs.encode = conditioning + encoders.beside;
  needs.denoise = needs.decode = conditioning;
  return needs;
}

}  // namespace sagelab
