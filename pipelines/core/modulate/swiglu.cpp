// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/modulate/swiglu.h"

#include <ATen/ATen.h>

#ifdef SAGELAB_CUDA
#include "pipelines/core/modulate/cuda.h"
#endif

namespace sagelab {

at::Tensor swiglu_(const at::Tensor& both) {
  TORCH_CHECK(both.dim() == 3 && both.size(2) % 2 == 0, "value and gate should be [B, S, 2F], not ",
              both.sizes());
  const int64_t width = both.size(2) / 2;
  const at::Tensor value = both.narrow(2, 0, width);
#ifdef SAGELAB_CUDA
  if (both.is_cuda() && swiglu_cuda(both)) return value;
#endif
  at::Tensor gate = both.narrow(2, width, width);
  value.mul_(at::silu_(gate));
  return value;
}

}  // namespace sagelab
