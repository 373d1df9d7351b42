// SPDX-License-Identifier: Apache-2.0
// What `bench attention` runs on: tensors drawn on the device, and the truth about some of their rows.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "attention/attention.h"

namespace sagelab::bench {

struct Shape {
  int64_t batch = 1, heads = 1, kv_heads = 1, tokens = 1, head_dim = 64;
  bool causal = false;
};

// Multiplications and additions of Q K^T and P V; a causal mask leaves half.
double operations(const Shape& shape);

struct Distribution {
  std::string_view name;  // "outliers"
  std::string_view help;
};
std::span<const Distribution> distributions();

// The same seed gives the same tensors on the same kind of device. Scale is 1/sqrt(D).
attention::Call draw(const Shape& shape, std::string_view distribution, uint64_t seed,
                     const at::TensorOptions& options);

// rows of 0 ... tokens - 1, ascending, without repetition, int64 on the device; all where there are no more.
at::Tensor sample_rows(int64_t tokens, int64_t rows, uint64_t seed, const at::Device& device);
// The output of these queries by the definition: fp64 [B, rows, H, D], on the call's device, in chunks.
at::Tensor exact_rows(const attention::Call& call, const at::Tensor& rows);

}  // namespace sagelab::bench
