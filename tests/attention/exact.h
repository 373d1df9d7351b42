// SPDX-License-Identifier: Apache-2.0
// What the attention tests stand on: seeded inputs, an error measure that NaN cannot pass, joint calls to
// try, and their results by the definition, in double precision loops that share no code with the library.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "attention/joint.h"

namespace sagelab::attention::test {

// CPU, and CUDA where there is one.
std::vector<at::Device> devices();
std::string name_of(at::ScalarType dtype);

// N(0, 1) x scale, rounded to dtype; the same values on every device.
at::Tensor normal(at::IntArrayRef sizes, uint64_t seed, at::ScalarType dtype, at::Device device,
                  double scale = 1);

// ||actual - expected|| / ||expected||, the absolute norm where expected is zero, infinity where actual holds
// anything non-finite or has other sizes.
double relative_error(const at::Tensor& actual, const at::Tensor& expected);

// Attention by the definition, of fp64 CPU tensors [B, S, H, D]; causal is aligned bottom right. A row
// without keys gives zeros and an lse of -inf.
struct Exact {
  at::Tensor out, lse;  // fp64 [B, Sq, H, D], [B, H, Sq]
};
Exact exact_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                      bool causal);

// Norm, RoPE and concatenation by the definition; fp64 on CPU, not rounded.
struct ExactGathered {
  at::Tensor q, k, v;
};
ExactGathered exact_gather(const JointCall& call);

enum class RopeForm { None, Tables, Positions };

struct JointShape {
  std::vector<int64_t> lengths{7, 41};
  std::vector<bool> queries{true, true};
  int64_t batch = 2, heads = 4, kv_heads = 4, head_dim = 64;
  Norm::Kind norm = Norm::Kind::Layer;
  bool weight = true, bias = true;
  RopeForm rope = RopeForm::Tables;
  double eps = 1e-6, input_scale = 1;
  at::ScalarType dtype = at::kFloat;
  at::Device device = at::kCPU;
  bool wide_out = true;  // outs are columns of a wider buffer
};

// A joint call with its memory. Inputs are views into fused buffers, outs are poisoned with NaN.
struct JointCase {
  explicit JointCase(const JointShape& shape, uint64_t seed = 1);
  JointCall call() const { return {segments, scale, {}}; }
  void poison();
  // Whether everything around the outs is as it was.
  bool surroundings_untouched() const;
  at::Tensor outs() const;  // of all segments with queries, [B, Sq, H, D]
  std::vector<Segment> segments;
  double scale = 0;

 private:
  std::vector<at::Tensor> out_buffers_;
  int64_t columns_ = 0;
};

}  // namespace sagelab::attention::test
