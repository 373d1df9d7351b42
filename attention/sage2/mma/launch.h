// SPDX-License-Identifier: Apache-2.0
// The instances of the mma.sync kernel: one per file next to this one and head dimension.
#pragma once

#include "attention/sage2/kernels.h"

namespace sagelab::attention::sage2::mma {

// kD: the padded head dimension, 64 or 128.
template <Qk kQk, Pv kPv, int kD>
cudaError_t launch(const AttentionParams& params, cudaStream_t stream);

}  // namespace sagelab::attention::sage2::mma
