// SPDX-License-Identifier: Apache-2.0
#include "pipelines/video/conv.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "pipelines/core/weights.h"

namespace sagelab {

at::Tensor conv3d(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t padding,
                  int64_t largest) {
  const int64_t lost = weight.size(2) - 1, frames = x.size(2) - lost;
  const int64_t parts = conv_parts(x.numel(), largest);
  const std::array<int64_t, 3> pad{0, padding, padding};
  if (parts == 1) return at::conv3d(x, weight, bias, /*stride=*/1, pad);
  const int64_t step = (frames + parts - 1) / parts;
  at::Tensor out;
  for (int64_t t = 0; t < frames; t += step) {
    const int64_t n = std::min(step, frames - t);
    const at::Tensor part = at::conv3d(x.narrow(2, t, n + lost), weight, bias, /*stride=*/1, pad);
    if (!out.defined()) {
      out = at::empty({part.size(0), part.size(1), frames, part.size(3), part.size(4)}, x.options());
    }
    out.narrow(2, t, n).copy_(part);
  }
  return out;
}

PointConv::PointConv(const Weights& w, int64_t out, int64_t in)
    : weight(w.tensor("weight", {out, in, 1, 1, 1})), bias(w.tensor("bias", {out})) {}

}  // namespace sagelab
