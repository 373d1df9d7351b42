// SPDX-License-Identifier: Apache-2.0
#include "pipelines/video/causal_conv.h"

#include <ATen/ATen.h>

#include "pipelines/core/weights.h"
#include "pipelines/video/conv.h"

namespace sagelab {

at::Tensor with_margins(at::IntArrayRef sizes, const at::TensorOptions& options) {
  return at::empty({sizes[0], sizes[1], sizes[2] + kMarginFrames, sizes[3] + 2 * kMarginPlaces,
                    sizes[4] + 2 * kMarginPlaces},
                   options);
}

at::Tensor inside(const at::Tensor& padded) {
  return padded.narrow(2, kMarginFrames, padded.size(2) - kMarginFrames)
      .narrow(3, kMarginPlaces, padded.size(3) - 2 * kMarginPlaces)
      .narrow(4, kMarginPlaces, padded.size(4) - 2 * kMarginPlaces);
}

void replicate_margins(const at::Tensor& padded) {
  const at::Tensor frames = padded.narrow(2, kMarginFrames, padded.size(2) - kMarginFrames);
  for (const int64_t dim : {3, 4}) {
    const int64_t end = frames.size(dim) - kMarginPlaces;
    frames.narrow(dim, 0, kMarginPlaces).copy_(frames.narrow(dim, kMarginPlaces, 1));
    frames.narrow(dim, end, kMarginPlaces).copy_(frames.narrow(dim, end - 1, 1));
  }
  padded.narrow(2, 0, kMarginFrames).copy_(frames.narrow(2, 0, 1));
}

at::Tensor replicated(const at::Tensor& x) {
  at::Tensor padded = with_margins(x.sizes(), x.options());
  inside(padded).copy_(x);
  replicate_margins(padded);
  return padded;
}

at::Tensor replicated(const at::Tensor& x, Activation activation) {
  if (activation != Activation::Silu) return replicated(activate(activation, x));
  at::Tensor padded = with_margins(x.sizes(), x.options()), inner = inside(padded);
  at::silu_out(inner, x);
  replicate_margins(padded);
  return padded;
}

CausalConv3d::CausalConv3d(const Weights& w, int64_t out, int64_t in)
    : weight((w / "conv").tensor("weight", {out, in, 3, 3, 3})), bias((w / "conv").tensor("bias", {out})) {}

at::Tensor CausalConv3d::operator()(const at::Tensor& padded) const {
  return conv3d(padded, weight, bias, /*padding=*/0);
}

}  // namespace sagelab
