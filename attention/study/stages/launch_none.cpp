// SPDX-License-Identifier: Apache-2.0
#include <c10/util/Exception.h>

#include "attention/study/stages/launch.h"

namespace sagelab::attention::study {

std::string stages_not_built() {
  return "this build has no CUDA kernels";
}

std::function<void(Variant)> launch_stages(const Call&) {
  TORCH_CHECK(false, stages_not_built());
}

double launch_clock_beside(const at::Device&, const std::function<void()>&, double) {
  TORCH_CHECK(false, stages_not_built());
}

int processors_of(const at::Device&) {
  TORCH_CHECK(false, stages_not_built());
}

}  // namespace sagelab::attention::study
