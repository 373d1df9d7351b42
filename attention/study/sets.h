// SPDX-License-Identifier: Apache-2.0
// Synthetic q, k and v for the accuracy studies, with what is known of the activations of diffusion
// transformers: channels with offsets of their own in q and k, biased v, RMS norm and RoPE over a grid of
// patches behind text tokens.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <string_view>

namespace sagelab::attention::study {

struct Layer {
  at::Tensor q, k, v;  // fp32 [H, S, D]
};

struct SetInfo {
  std::string_view name, help;
};
std::span<const SetInfo> sets();

// Layers of a set differ in their random numbers, and each has outliers twice as large as the one before:
// 1/2, 1, 2 and 4 times those of the set's description.
constexpr int kLayers = 4;

// The same numbers on every machine: drawn on the CPU. Throws sagelab::Error for an unknown name.
Layer draw(std::string_view set, int layer, at::Device device);

}  // namespace sagelab::attention::study
