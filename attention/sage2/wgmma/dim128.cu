// SPDX-License-Identifier: Apache-2.0
#include "attention/sage2/wgmma/instances.h"
#include "attention/sage2/wgmma/select.cuh"

namespace sagelab::attention::sage2::hopper {

cudaError_t launch_dim128(const AttentionParams& params, cudaStream_t stream) {
  return select<128>(params, stream);
}

}  // namespace sagelab::attention::sage2::hopper
