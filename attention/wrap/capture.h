// SPDX-License-Identifier: Apache-2.0
// Shows q, k and v of chosen calls to a sink before they are served, and forwards every call untouched. It is
// in no spec: a run captures (RunContext::capture) whatever serves it, and its name is that of what it wraps.
// What is gathered for the sink is gone before the call is served: beside the call's own tensors a capture
// takes gather_bytes() and what the sink does, and nothing on top of what serving takes.
#pragma once

#include <functional>

#include "attention/wrap/ranges.h"
#include "attention/wrap/wrapper.h"

namespace sagelab::attention {

// A call as its attention sees it: after norm, RoPE and concatenation. Views of the call's own tensors where
// nothing had to be computed: for the length of the sink's call only.
struct Captured {
  at::Tensor q, k, v;  // [B, Sq, H, D], [B, Skv, Hkv, D]
  double scale = 0;
  bool causal = false;
  Site site;
};

// Which calls of a run, and who is told of them. What the sink throws ends the run.
struct Capturing {
  Ranges layers, steps;
  std::function<void(const Captured&)> sink;  // empty: nothing is captured
  bool wants(const Site& site) const;
};

class Capture final : public Wrapper {
 public:
  Capture(BackendPtr inner, Capturing what) : Wrapper(std::move(inner)), what_(std::move(what)) {}
  std::string name() const override { return inner()->name(); }
  Output run(const Call& call, Recorder& recorder) const override;
  void run_joint(const JointCall& call, Recorder& recorder) const override;

 private:
  Capturing what_;
};

}  // namespace sagelab::attention
