// SPDX-License-Identifier: Apache-2.0
// The Hopper kernels by padded head dimension; a translation unit each.
#pragma once

#include "attention/sage2/kernels.h"

namespace sagelab::attention::sage2::hopper {

cudaError_t launch_dim64(const AttentionParams& params, cudaStream_t stream);
cudaError_t launch_dim128(const AttentionParams& params, cudaStream_t stream);

}  // namespace sagelab::attention::sage2::hopper
