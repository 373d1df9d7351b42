// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/linear/cuda.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "pipelines/core/linear/kernel.h"

namespace sagelab {

bool quantize_rows_cuda(QuantizedRows& out, const at::Tensor& x) {
  constexpr int64_t kVector = 8, kBytes = 16;
  const bool fit = x.is_cuda() && x.scalar_type() == at::kBFloat16 && x.stride(1) == 1 &&
                   x.size(1) % kVector == 0 && x.stride(0) % kVector == 0 &&
                   reinterpret_cast<uintptr_t>(x.const_data_ptr()) % kBytes == 0;
  if (!fit) return false;
  const c10::cuda::CUDAGuard guard(x.device());
  out.values = at::empty(x.sizes(), x.options().dtype(at::kFloat8_e4m3fn));
  out.scale = at::empty({x.size(0), 1}, x.options().dtype(at::kFloat));
  kernel::QuantizeRowsParams p;
  p.x = x.const_data_ptr(), p.values = out.values.data_ptr(), p.scale = out.scale.mutable_data_ptr<float>();
  p.x_row = x.stride(0), p.rows = x.size(0), p.dim = int(x.size(1));
  C10_CUDA_CHECK(kernel::launch_quantize_rows(p, c10::cuda::getCurrentCUDAStream()));
  return true;
}

}  // namespace sagelab
