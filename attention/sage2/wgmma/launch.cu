// SPDX-License-Identifier: Apache-2.0
#include "attention/sage2/wgmma/instances.h"

namespace sagelab::attention::sage2 {

cudaError_t launch_wgmma(const AttentionParams& params, cudaStream_t stream) {
  return padded_head_dim(params.head_dim) == 64 ? hopper::launch_dim64(params, stream)
                                                : hopper::launch_dim128(params, stream);
}

}  // namespace sagelab::attention::sage2
