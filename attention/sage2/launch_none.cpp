// SPDX-License-Identifier: Apache-2.0
#include <c10/util/Exception.h>

#include "attention/sage2/launch.h"

namespace sagelab::attention::sage2 {

std::string launch_unsupported() {
  return "this build has no CUDA kernels";
}

Output launch(const Call&, const Settings&) {
  TORCH_CHECK(false, launch_unsupported());
}

bool launch_joint(const JointCall&, const Settings&) {
  TORCH_CHECK(false, launch_unsupported());
}

std::function<void()> prepare(const Call&, const Settings&, Attend) {
  TORCH_CHECK(false, launch_unsupported());
}

Quantized quantize_on_cuda(const Call&, const Settings&) {
  TORCH_CHECK(false, launch_unsupported());
}

Quantized quantize_on_cuda(const JointCall&, const Settings&) {
  TORCH_CHECK(false, launch_unsupported());
}

}  // namespace sagelab::attention::sage2
