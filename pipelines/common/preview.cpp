// SPDX-License-Identifier: Apache-2.0
#include "pipelines/common/preview.h"

#include <ATen/ATen.h>

namespace sagelab {

at::Tensor principal_colours(const at::Tensor& latents) {
  const int64_t channels = latents.size(1);
  const at::Tensor rows = latents.permute({0, 2, 3, 1}).reshape({-1, channels}).to(at::kFloat);
  const at::Tensor centred = rows - rows.mean(0, true);
  const at::Tensor covariance = (at::matmul(centred.t(), centred) / double(rows.size(0))).cpu();
  at::Tensor axes = std::get<1>(at::linalg_eigh(covariance)).flip({1}).slice(1, 0, 3);  // largest first
  // An axis has no sign of its own; without a rule colours would flip between steps.
  const at::Tensor largest = axes.gather(0, axes.abs().argmax(0, true));
  axes = (axes * largest.sign()).to(centred.device());
  at::Tensor colours = at::matmul(centred, axes);
  colours = colours / (2 * colours.square().mean(0, true).sqrt()).clamp_min(1e-6);
  if (colours.size(1) < 3) colours = colours.slice(1, 0, 1).expand({-1, 3});
  return colours.clamp(-1, 1)
      .view({latents.size(0), latents.size(2), latents.size(3), 3})
      .permute({0, 3, 1, 2});
}

}  // namespace sagelab
