// SPDX-License-Identifier: Apache-2.0
// Attention over several token segments (text and video, or one): q/k norm, RoPE and concatenation belong to
// the call, so that a backend can fuse them. Norm and RoPE are computed in fp32 and rounded once.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>

#include "attention/attention.h"

namespace sagelab::attention {

// Per-head norm over head_dim. weight, bias: [D]; either may be undefined.
struct Norm {
  enum class Kind { None, Rms, Layer };
  Kind kind = Kind::None;
  at::Tensor weight, bias;
  double eps = 0;
};

// Rotates adjacent pairs (2j, 2j+1). Either tables or positions with frequencies, or neither (no rotation).
struct Rope {
  at::Tensor cos, sin;                // fp32 [S, D/2]
  at::Tensor positions, frequencies;  // fp32 [S, 3] and [3, H, D/2]: angle = positions @ frequencies per head
  bool empty() const { return !cos.defined() && !positions.defined(); }
};

// One run of tokens. q [B, S, H, D], k and v [B, S, Hkv, D]: views of any strides, D contiguous.
// q and out undefined: its keys take part, its queries do not. out [B, S, H, D] may be a
// strided view; it shares no memory with any segment's q, k or v.
struct Segment {
  at::Tensor q, k, v;
  Norm q_norm, k_norm;
  Rope rope;
  at::Tensor out;
};

struct JointCall {
  std::span<const Segment> segments;
  double scale = 0;
  Site site;
};

Problem problem_of(const JointCall& call);
// Throws c10::Error naming the segment and the shapes that do not fit.
void check_joint(const JointCall& call);

// The segments with norm and RoPE applied, concatenated in order: q only over segments that have one.
// Tensors that need no work are views of the segments': one segment without norm and RoPE, a single segment's
// v, and segments that follow each other in one tensor.
struct Gathered {
  at::Tensor q, k, v;
  bool fused = false;  // the one-pass kernel made them
};
Gathered gather(const JointCall& call);  // one pass on CUDA (fused.cu), ATen elsewhere
Gathered gather_reference(
    const JointCall& call);  // ATen operations in fp32, any device: the oracle of the fused kernel
// Bytes that gather allocates for one segment that is normed and, where `rotated`, turned.
struct GatherBytes {
  int64_t peak = 0, kept = 0;  // while it works; what it returns
};
GatherBytes gather_bytes(const Problem& problem, bool rotated);
// Where the rows of the result go as one view [B, Sq, H, D], if the segments' outs are one; undefined
// otherwise.
at::Tensor destination(const JointCall& call);
// Writes rows of out [B, Sq, H, D] into each segment's out, in order; nothing where it is that memory
// already.
void scatter(const at::Tensor& out, const JointCall& call);

}  // namespace sagelab::attention
