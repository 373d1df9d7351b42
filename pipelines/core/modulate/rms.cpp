// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/modulate/rms.h"

#include <ATen/ATen.h>

#ifdef SAGELAB_CUDA
#include "pipelines/core/modulate/cuda.h"
#endif

namespace sagelab {
namespace {

void check(const at::Tensor& x, const at::Tensor& out, const at::Tensor& factor) {
  TORCH_CHECK(x.dim() == 3 && out.sizes() == x.sizes() && out.scalar_type() == x.scalar_type(), "rows of ",
              x.sizes(), " in ", x.scalar_type(), " do not fit ", out.sizes(), " in ", out.scalar_type());
  TORCH_CHECK(factor.sizes() == at::IntArrayRef({x.size(0), x.size(2)}), "a factor of shape ", factor.sizes(),
              " does not fit rows of ", x.sizes());
}

// In fp32.
at::Tensor rms(const at::Tensor& x, double eps) {
  const at::Tensor wide = x.to(at::promote_types(x.scalar_type(), at::kFloat));
  return wide * at::rsqrt(wide.square().mean(-1, true).add_(eps));
}

}  // namespace

void rms_modulate_into(const at::Tensor& x, const at::Tensor& scale, double eps, const at::Tensor& out) {
  check(x, out, scale);
#ifdef SAGELAB_CUDA
  if (x.is_cuda() && rms_modulate_cuda(x, scale, eps, out)) return;
#endif
  at::Tensor y = rms(x, eps);
  out.copy_(y.mul_(scale.to(y.scalar_type()).add(1).unsqueeze(1)));
}

void add_rms_gated_(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gate, double eps) {
  check(x, y, gate);
#ifdef SAGELAB_CUDA
  if (x.is_cuda() && add_rms_gated_cuda(x, y, gate, eps)) return;
#endif
  at::Tensor wide = rms(y, eps);
  x.add_(wide.mul_(gate.to(wide.scalar_type()).tanh().unsqueeze(1)));
}

}  // namespace sagelab
