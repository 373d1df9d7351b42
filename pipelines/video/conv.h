// SPDX-License-Identifier: Apache-2.0
// A 3D convolution of stride 1 that runs in parts along time where its input is large.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace sagelab {

class Weights;

// Elements that one part's input may have; diffusers cuts at the same size, and cuDNN counts in 32 bits.
constexpr int64_t kLargestConvolution = int64_t(1) << 30;

// In how many parts an input of so many elements runs.
inline int64_t conv_parts(int64_t elements, int64_t largest = kLargestConvolution) {
  return elements > largest ? elements / largest + 1 : 1;
}

// x [1, C, T, H, W], weight [O, C, kt, kh, kw] -> [1, O, T - kt + 1, H', W']. padding: of height and of
// width.
at::Tensor conv3d(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t padding,
                  int64_t largest = kLargestConvolution);

// A convolution 1x1x1.
struct PointConv {
  at::Tensor weight, bias;  // weight [out, in, 1, 1, 1]
  PointConv(const Weights& w, int64_t out, int64_t in);
  at::Tensor operator()(const at::Tensor& x) const { return conv3d(x, weight, bias, 0); }
};

}  // namespace sagelab
