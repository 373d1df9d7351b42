// SPDX-License-Identifier: Apache-2.0
// What `bench attention` runs on: tensors drawn on the device, and the truth about some of their rows.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "attention/joint.h"

namespace sagelab::bench {

struct Shape {
  int64_t batch = 1, heads = 1, kv_heads = 1, tokens = 1, head_dim = 64;
  bool causal = false;
  std::optional<int64_t> text = {};  // how many of the tokens, of a joint call: not causal, kv_heads == heads
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

// One set of inputs: of a plain call or, where the shape has text, of a joint one.
struct Inputs {
  attention::Call call;  // of a joint call what its attention sees: q, k and v normed, turned, concatenated
  // Of a joint call, empty of a plain one: text, then the rest, each only where it has tokens. Both have RMS
  // norms of q and k; RoPE turns the rest. q, k and v are views of one [B, S, 3, H, D], the outs of out.
  std::vector<attention::Segment> segments;
  at::Tensor out;  // [B, S, H, D]
};
// As draw(); norm and RoPE are the joint call's own, also where the distribution has some.
Inputs draw_inputs(const Shape& shape, std::string_view distribution, uint64_t seed,
                   const at::TensorOptions& options);
// [B, S, H, D], what a backend makes of them: by run, or by run_joint into their out.
at::Tensor run_on(const Inputs& inputs, const attention::Backend& backend, attention::Recorder& recorder);

// rows of 0 ... tokens - 1, ascending, without repetition, int64 on the device; all where there are no more.
at::Tensor sample_rows(int64_t tokens, int64_t rows, uint64_t seed, const at::Device& device);
// The output of these queries by the definition: fp64 [B, rows, H, D], on the call's device, in chunks.
at::Tensor exact_rows(const attention::Call& call, const at::Tensor& rows);
// The same; of a joint call norm and RoPE too are fp64 by the definition.
at::Tensor exact_rows(const Inputs& inputs, const at::Tensor& rows);

}  // namespace sagelab::bench
