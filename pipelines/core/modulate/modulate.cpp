// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/modulate/modulate.h"

#include <ATen/ATen.h>

#ifdef SAGELAB_CUDA
#include "pipelines/core/modulate/cuda.h"
#endif

namespace sagelab {
namespace {

void check_span(const at::Tensor& x, int64_t begin, int64_t end, int64_t expected_begin,
                const at::Tensor& factor) {
  TORCH_CHECK(begin == expected_begin && end >= begin && end <= x.size(1), "span [", begin, ", ", end,
              ") of ", x.size(1), " rows should begin at ", expected_begin);
  TORCH_CHECK(factor.dim() == 2 && factor.size(0) == x.size(0) && factor.size(1) == x.size(2),
              "a factor of shape ", factor.sizes(), " does not fit rows of ", x.sizes());
}

void check_end(const at::Tensor& x, int64_t row) {
  TORCH_CHECK(row == x.size(1), "spans end at row ", row, " of ", x.size(1));
}

}  // namespace

at::Tensor norm_modulate(const at::Tensor& x, const LayerNorm& norm, std::span<const Modulation> spans) {
  int64_t row = 0;
  for (const Modulation& span : spans) {
    check_span(x, span.begin, span.end, row, span.scale);
    check_span(x, span.begin, span.end, row, span.shift);
    row = span.end;
  }
  check_end(x, row);
#ifdef SAGELAB_CUDA
  if (at::Tensor fused; x.is_cuda() && norm_modulate_cuda(fused, x, norm, spans)) return fused;
#endif
  // The norm's own scale and shift fold into the modulation before that is rounded: one pass over the rows,
  // not three.
  const at::ScalarType wide = at::promote_types(x.scalar_type(), at::kFloat);
  at::Tensor out = at::layer_norm(x, {x.size(2)}, {}, {}, norm.eps);
  for (const Modulation& span : spans) {
    at::Tensor scale = span.scale.to(wide).add(1), shift = span.shift.to(wide);
    if (norm.bias.defined()) shift = shift.addcmul(norm.bias.to(wide), scale);
    if (norm.weight.defined()) scale = scale.mul(norm.weight);
    at::Tensor rows = out.narrow(1, span.begin, span.end - span.begin);
    at::addcmul_out(rows, shift.to(x.scalar_type()).unsqueeze(1), rows,
                    scale.to(x.scalar_type()).unsqueeze(1));
  }
  return out;
}

void add_gated_(const at::Tensor& x, const at::Tensor& y, std::span<const Gate> spans) {
  TORCH_CHECK(x.sizes() == y.sizes(), "a residual of shape ", y.sizes(), " does not fit ", x.sizes());
  int64_t row = 0;
  for (const Gate& span : spans) {
    check_span(x, span.begin, span.end, row, span.gate);
    row = span.end;
  }
  check_end(x, row);
#ifdef SAGELAB_CUDA
  if (x.is_cuda() && add_gated_cuda(x, y, spans)) return;
#endif
  for (const Gate& span : spans) {
    const int64_t rows = span.end - span.begin;
    x.narrow(1, span.begin, rows)
        .addcmul_(span.gate.to(x.scalar_type()).unsqueeze(1), y.narrow(1, span.begin, rows));
  }
}

}  // namespace sagelab
