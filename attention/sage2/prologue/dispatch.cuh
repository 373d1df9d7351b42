// SPDX-License-Identifier: Apache-2.0
// From values to template arguments, once for all kernels of the prologue.
#pragma once

#include "attention/sage2/prologue/source.cuh"

namespace sagelab::attention::sage2 {

// Calls f<T, kLanes>() for the element type and the padded head dimension.
template <class F>
cudaError_t dispatch(const AttentionParams& shape, F f) {
  const bool small = padded_head_dim(shape.head_dim) == 64;
  switch (shape.scalar) {
    case sagelab::kernel::Scalar::BFloat16:
      return small ? f.template operator()<__nv_bfloat16, 8>() : f.template operator()<__nv_bfloat16, 16>();
    case sagelab::kernel::Scalar::Half:
      return small ? f.template operator()<__half, 8>() : f.template operator()<__half, 16>();
    case sagelab::kernel::Scalar::Float:
      break;
  }
  return cudaErrorNotSupported;
}

// Calls f<T, kLanes, kArch>(): Ampere and Ada share tile sizes and scale groups.
template <class F>
cudaError_t dispatch_tiles(const AttentionParams& shape, F f) {
  return dispatch(shape, [&]<class T, int kLanes>() {
    return shape.settings.arch == Arch::Sm90 ? f.template operator()<T, kLanes, Arch::Sm90>()
                                             : f.template operator()<T, kLanes, Arch::Sm89>();
  });
}

}  // namespace sagelab::attention::sage2
