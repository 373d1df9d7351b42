// SPDX-License-Identifier: Apache-2.0
// The attention seam: what every model calls and every backend implements. One layout everywhere:
// q [B, Sq, H, D], k and v [B, Skv, Hkv, D], any strides with D contiguous; H is a multiple of Hkv.
// No mask reaches a backend; lengths of zero are legal.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace sagelab::attention {

class Recorder;
struct JointCall;

// Which guided branch a forward computes. Both: one batch [negative, positive].
enum class Branch { Cond, Uncond, Both, SkipLayer };
std::string_view to_string(Branch branch);

// Where in a run a call happens. layer counts over the whole model; call counts within one forward.
struct Site {
  int step = 0, steps = 1;
  int layer = 0, layers = 1;
  Branch branch = Branch::Cond;
  int call = 0;
  std::string_view block = "block";  // "double", "single", "attn2", "refiner" ...: static storage
};

// The shape of a call: what a backend may accept or refuse.
struct Problem {
  int64_t batch = 0, heads = 0, kv_heads = 0, q_len = 0, kv_len = 0, head_dim = 0;
  at::ScalarType dtype = at::kFloat;
  at::Device device = at::kCPU;
  bool causal = false;  // aligned bottom right: query i sees keys up to i + kv_len - q_len
};

struct Call {
  at::Tensor q, k, v;
  double scale = 0;  // multiplies q k^T before the softmax
  bool causal = false;
  bool want_lse = false;
  Site site;
  bool fused = false;  // norm, RoPE and gather of q, k, v ran in one pass: only recorded
  at::Tensor out;      // [B, Sq, H, D], any strides, optional: a backend that can writes there and returns it
};

// out [B, Sq, H, D] in q's dtype; lse [B, H, Sq] fp32, natural log, defined only where asked for.
struct Output {
  at::Tensor out, lse;
};

Problem problem_of(const Call& call);
// Throws c10::Error naming the shapes where q, k, v do not fit each other or the layout.
void check_call(const Call& call);

class Backend {
 public:
  virtual ~Backend() = default;
  // The spec that makes this backend again: "sdpa(flash)", "timed(sdpa)".
  virtual std::string name() const = 0;
  // The reason this backend cannot run the problem; empty if it can.
  virtual std::string unsupported(const Problem& problem) const = 0;
  // Throws sagelab::Error with unsupported()'s reason where it cannot run.
  virtual Output run(const Call& call, Recorder& recorder) const = 0;
  // Norm, RoPE, gather and attention over all segments, into each segment's out. The default (joint.cpp)
  // prepares q, k, v in one pass and calls run.
  virtual void run_joint(const JointCall& call, Recorder& recorder) const;
  // For plans: bytes of tensors that a call allocates at most, its result counted where the caller gives no
  // room for it. run: beside q, k, v and out. run_joint: beside the tensors of its one segment, whose q and k
  // are normed and, where `rotated`, turned. Exact for what tensors hold, an estimate for what a library's
  // kernel takes on its own. The problem is one that the backend can run.
  virtual int64_t run_bytes(const Problem& problem) const;
  virtual int64_t joint_bytes(const Problem& problem, bool rotated) const;
  // For benches: makes the operands of the attention kernel ready, and returns what runs it alone on them, as
  // often as it is called, on the stream that was current. Empty where run() has no such step before its
  // kernel.
  virtual std::function<void()> prepared(const Call&) const { return {}; }
};

using BackendPtr = std::shared_ptr<const Backend>;

// Throws sagelab::Error with the reason where the backend cannot run the problem.
void require_supported(const Backend& backend, const Problem& problem);

}  // namespace sagelab::attention
