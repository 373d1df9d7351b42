// SPDX-License-Identifier: Apache-2.0
#include <c10/util/Exception.h>

#include "attention/study/accumulator/launch.h"

namespace sagelab::attention::study {

std::string accumulators_not_built() {
  return "this build has no CUDA kernels";
}

at::Tensor launch_probe(Instruction, const at::Tensor&, uint32_t, uint32_t) {
  TORCH_CHECK(false, accumulators_not_built());
}

at::Tensor launch_product(Instruction, const at::Tensor&, const at::Tensor&, int64_t) {
  TORCH_CHECK(false, accumulators_not_built());
}

}  // namespace sagelab::attention::study
