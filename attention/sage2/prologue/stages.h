// SPDX-License-Identifier: Apache-2.0
// The launches that make up the prologue, in this order. Internal to it.
#pragma once

#include "attention/sage2/kernels.h"

namespace sagelab::attention::sage2 {

// Tokens that one block of the statistics looks at: of all, or of sampled ones, which are few.
constexpr int statistics_chunk(bool all) {
  return all ? 256 : 64;
}

// Whether the settings want means, and maxima of V, which take a look at tokens before any is quantized.
constexpr bool wants_k_mean(const Settings& s) {
  return s.smooth_k != Mean::Off;
}
constexpr bool wants_v_statistics(const Settings& s) {
  return s.smooth_v != Mean::Off || s.v != VScale::Tile;
}

// Whether it takes all tokens, or the sampled ones.
constexpr bool looks_at_all_keys(const Settings& s) {
  return s.smooth_k == Mean::Full;
}
constexpr bool looks_at_all_values(const Settings& s) {
  return s.smooth_v == Mean::Full || s.v == VScale::Channel;
}

// Scratch: statistics of K and V [B, Hkv, chunks, 4, D], then what V is multiplied by [B, Hkv, D].
struct Scratch {
  float* statistics;
  float* v_inverse;
  int64_t chunks;
};
Scratch scratch_of(const PrologueParams& params);

// How many processors the quantization takes: all, or where attention runs beside, what keeps ahead of it.
// plain: neither norm nor RoPE.
int processors_for(const AttentionParams& shape, bool plain);

cudaError_t launch_statistics(const PrologueParams& params, cudaStream_t stream);
cudaError_t launch_quantize(const PrologueParams& params, cudaStream_t stream);
cudaError_t launch_quantize_plain(const PrologueParams& params, cudaStream_t stream);  // no norm, no rotation
cudaError_t launch_delta(const PrologueParams& params, cudaStream_t stream);

}  // namespace sagelab::attention::sage2
