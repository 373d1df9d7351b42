// SPDX-License-Identifier: Apache-2.0
// The launches that make up the prologue, in this order. Internal to it.
#pragma once

#include "attention/sage2/kernels.h"

namespace sagelab::attention::sage2 {

// Tokens that one block of the statistics looks at.
constexpr int kStatisticsChunk = 256;

// Whether the settings want means, and channel scales of V, which only a look at all tokens gives.
constexpr bool wants_k_mean(const Settings& s) {
  return s.smooth_k != Mean::Off;
}
constexpr bool wants_v_statistics(const Settings& s) {
  return s.smooth_v != Mean::Off || s.v == VScale::Channel;
}

// Scratch: statistics of K and V [B, Hkv, chunks, 4, D], then what V is multiplied by [B, Hkv, D].
struct Scratch {
  float* statistics;
  float* v_inverse;
  int64_t chunks;
};
Scratch scratch_of(const PrologueParams& params);

cudaError_t launch_statistics(const PrologueParams& params, cudaStream_t stream);
cudaError_t launch_quantize(const PrologueParams& params, cudaStream_t stream);
cudaError_t launch_quantize_plain(const PrologueParams& params, cudaStream_t stream);  // no norm, no rotation
cudaError_t launch_delta(const PrologueParams& params, cudaStream_t stream);

}  // namespace sagelab::attention::sage2
