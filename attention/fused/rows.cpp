// SPDX-License-Identifier: Apache-2.0
#include "attention/fused/rows.h"

#include <ATen/ATen.h>

namespace sagelab::attention {
namespace {

sagelab::kernel::NormKind kind_of(Norm::Kind kind) {
  switch (kind) {
    case Norm::Kind::None:
      return sagelab::kernel::NormKind::None;
    case Norm::Kind::Rms:
      return sagelab::kernel::NormKind::Rms;
    case Norm::Kind::Layer:
      return sagelab::kernel::NormKind::Layer;
  }
  TORCH_CHECK(false, "no such norm: ", static_cast<int>(kind));
}

}  // namespace

const float* Floats::operator()(const at::Tensor& x, const at::Device& device) {
  if (!x.defined()) return nullptr;
  at::Tensor y = x.to(device, at::kFloat).contiguous();
  if (reinterpret_cast<uintptr_t>(y.const_data_ptr()) % 16 != 0) y = y.clone();
  kept_.push_back(std::move(y));
  return kept_.back().const_data_ptr<float>();
}

bool rows_aligned(const at::Tensor& x) {
  if (x.numel() == 0) return true;
  bool fit =
      reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0 && (x.size(3) == 1 || x.stride(3) == 1);
  for (int d = 0; d < 3; ++d) fit = fit && (x.size(d) == 1 || x.stride(d) * x.element_size() % 16 == 0);
  return fit;
}

sagelab::kernel::Rows rows_of(const at::Tensor& x, const Norm& norm, bool rotate, Floats& floats) {
  sagelab::kernel::Rows rows;
  rows.data = x.const_data_ptr();
  rows.batch = x.stride(0), rows.token = x.stride(1), rows.head = x.stride(2);
  rows.heads = int(x.size(2));
  rows.norm = kind_of(norm.kind);
  rows.weight = floats(norm.weight, x.device()), rows.bias = floats(norm.bias, x.device());
  rows.eps = float(norm.eps);
  rows.rotate = rotate;
  return rows;
}

sagelab::kernel::Rotation rotation_of(const Rope& rope, const at::Device& device, Floats& floats) {
  sagelab::kernel::Rotation r;
  r.cos = floats(rope.cos, device), r.sin = floats(rope.sin, device);
  r.positions = floats(rope.positions, device), r.frequencies = floats(rope.frequencies, device);
  r.frequency_heads = rope.frequencies.defined() ? int(rope.frequencies.size(1)) : 0;
  return r;
}

}  // namespace sagelab::attention
