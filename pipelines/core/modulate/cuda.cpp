// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/modulate/cuda.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <vector>

#include "attention/dtype.h"
#include "pipelines/core/modulate/kernel.h"

namespace sagelab {
namespace {

// Rows contiguous and on 16 bytes.
bool rows_fit(const at::Tensor& x) {
  bool fit = x.is_cuda() && x.stride(-1) == 1 && reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0;
  for (int64_t d = 0; d + 1 < x.dim(); ++d) fit = fit && x.stride(d) * x.element_size() % 16 == 0;
  return fit;
}

bool activations_fit(const at::Tensor& x, size_t spans) {
  return kernel_scalar(x.scalar_type()) && x.size(2) % 8 == 0 && x.size(2) <= kernel::kMaxDim &&
         spans <= kernel::kMaxSpans && rows_fit(x);
}

// Operands in x's dtype whose rows the kernel can read; kept alive for the launch.
struct Operands {
  const at::Tensor& like;
  std::vector<at::Tensor> kept;
  const at::Tensor& operator()(const at::Tensor& x) {
    at::Tensor y = x.to(like.options());
    kept.push_back(rows_fit(y) ? y : y.clone(at::MemoryFormat::Contiguous));
    return kept.back();
  }
};

bool rms_cuda(const at::Tensor& x, const at::Tensor& factor, double eps, const at::Tensor& out, bool adds) {
  if (!activations_fit(x, 1) || !rows_fit(out)) return false;
  const c10::cuda::CUDAGuard guard(x.device());
  Operands operand{x, {}};
  const at::Tensor& by = operand(factor);
  const kernel::RmsParams p{x.const_data_ptr(),
                            out.data_ptr(),
                            by.const_data_ptr(),
                            x.stride(0),
                            x.stride(1),
                            out.stride(0),
                            out.stride(1),
                            by.stride(0),
                            x.size(0),
                            x.size(1),
                            int(x.size(2)),
                            float(eps),
                            adds};
  C10_CUDA_CHECK(kernel::launch_rms(p, *kernel_scalar(x.scalar_type()), c10::cuda::getCurrentCUDAStream()));
  return true;
}

}  // namespace

bool rms_modulate_cuda(const at::Tensor& x, const at::Tensor& scale, double eps, const at::Tensor& out) {
  return rms_cuda(x, scale, eps, out, false);
}

bool add_rms_gated_cuda(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gate, double eps) {
  return rms_cuda(y, gate, eps, x, true);
}

bool swiglu_cuda(const at::Tensor& both) {
  const int64_t dim = both.size(2) / 2;
  if (!kernel_scalar(both.scalar_type()) || dim % 8 || !rows_fit(both)) return false;
  const c10::cuda::CUDAGuard guard(both.device());
  const kernel::SwigluParams p{both.data_ptr(), both.stride(0), both.stride(1),
                               both.size(0),    both.size(1),   int(dim)};
  C10_CUDA_CHECK(
      kernel::launch_swiglu(p, *kernel_scalar(both.scalar_type()), c10::cuda::getCurrentCUDAStream()));
  return true;
}

bool norm_modulate_cuda(at::Tensor& out, const at::Tensor& x, const LayerNorm& norm,
                        std::span<const Modulation> spans) {
  if (!activations_fit(x, spans.size())) return false;
  const c10::cuda::CUDAGuard guard(x.device());
  out = at::empty(x.sizes(), x.options());
  Operands operand{x, {}};
  kernel::NormModulateParams p;
  p.x = x.const_data_ptr(), p.out = out.data_ptr();
  if (norm.weight.defined()) p.weight = operand(norm.weight).const_data_ptr();
  if (norm.bias.defined()) p.bias = operand(norm.bias).const_data_ptr();
  p.x_batch = x.stride(0), p.x_row = x.stride(1), p.batch = x.size(0), p.rows = x.size(1);
  p.dim = int(x.size(2)), p.eps = float(norm.eps), p.spans = int(spans.size());
  for (size_t i = 0; i < spans.size(); ++i) {
    const at::Tensor shift = operand(spans[i].shift), scale = operand(spans[i].scale);
    p.span[i] = {spans[i].begin,         spans[i].end,    shift.const_data_ptr(),
                 scale.const_data_ptr(), shift.stride(0), scale.stride(0)};
  }
  C10_CUDA_CHECK(
      kernel::launch_norm_modulate(p, *kernel_scalar(x.scalar_type()), c10::cuda::getCurrentCUDAStream()));
  return true;
}

bool add_gated_cuda(const at::Tensor& x, const at::Tensor& y, std::span<const Gate> spans) {
  if (!activations_fit(x, spans.size()) || y.scalar_type() != x.scalar_type() || !rows_fit(y)) return false;
  const c10::cuda::CUDAGuard guard(x.device());
  Operands operand{x, {}};
  kernel::AddGatedParams p;
  p.x = x.data_ptr(), p.y = y.const_data_ptr();
  p.x_batch = x.stride(0), p.x_row = x.stride(1), p.y_batch = y.stride(0), p.y_row = y.stride(1);
  p.batch = x.size(0), p.rows = x.size(1), p.dim = int(x.size(2)), p.spans = int(spans.size());
  for (size_t i = 0; i < spans.size(); ++i) {
    const at::Tensor gate = operand(spans[i].gate);
    p.span[i] = {spans[i].begin, spans[i].end, gate.const_data_ptr(), gate.stride(0)};
  }
  C10_CUDA_CHECK(
      kernel::launch_add_gated(p, *kernel_scalar(x.scalar_type()), c10::cuda::getCurrentCUDAStream()));
  return true;
}

}  // namespace sagelab
