// SPDX-License-Identifier: Apache-2.0
#include "attention/sage2/prologue/quantize.cuh"

namespace sagelab::attention::sage2 {

cudaError_t launch_quantize_plain(const PrologueParams& params, cudaStream_t stream) {
  return launch_quantize_as<true>(params, stream);
}

}  // namespace sagelab::attention::sage2
