// SPDX-License-Identifier: Apache-2.0
#include "attention/study/stages/variants.cuh"

namespace sagelab::attention::study {

cudaError_t launch_variant_dim128(Variant variant, const sage2::AttentionParams& params,
                                  cudaStream_t stream) {
  return launch_variant<128>(variant, params, stream);
}

}  // namespace sagelab::attention::study
