// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "attention/sage2/wgmma/attention.cuh"

namespace sagelab::attention::sage2::hopper {

// The kernel of a head dimension that the settings ask for.
template <int kDim>
cudaError_t select(const AttentionParams& p, cudaStream_t stream) {
  const Settings& s = p.settings;
  if (s.qk != Qk::Int8 || s.pv != Pv::Fp8 || s.smooth_q) return cudaErrorNotSupported;
  if (s.v != VScale::Tile) {
    return s.sum == Sum::Fp32 ? launch<Config<kDim, VScale::Channel, Sum::Fp32>>(p, stream)
                              : launch<Config<kDim, VScale::Channel, Sum::Matrix>>(p, stream);
  }
  return s.sum == Sum::Fp32 ? launch<Config<kDim, VScale::Tile, Sum::Fp32>>(p, stream)
                            : launch<Config<kDim, VScale::Tile, Sum::Matrix>>(p, stream);
}

}  // namespace sagelab::attention::sage2::hopper
