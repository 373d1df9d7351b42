// SPDX-License-Identifier: Apache-2.0
#include "attention/attention.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "attention/error.h"

namespace sagelab::attention {

std::string_view to_string(Branch branch) {
  switch (branch) {
    case Branch::Cond:
      return "cond";
    case Branch::Uncond:
      return "uncond";
    case Branch::Both:
      return "both";
    case Branch::SkipLayer:
      return "skip-layer";
  }
  TORCH_CHECK(false, "no such branch: ", static_cast<int>(branch));
}

Problem problem_of(const Call& call) {
  Problem p;
  p.batch = call.q.size(0);
  p.heads = call.q.size(2);
  p.kv_heads = call.k.size(2);
  p.q_len = call.q.size(1);
  p.kv_len = call.k.size(1);
  p.head_dim = call.q.size(3);
  p.dtype = call.q.scalar_type();
  p.device = call.q.device();
  p.causal = call.causal;
  return p;
}

void check_call(const Call& call) {
  const at::Tensor &q = call.q, &k = call.k, &v = call.v;
  TORCH_CHECK(q.defined() && k.defined() && v.defined(), "attention: q, k and v must be defined");
  TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && v.dim() == 4, "attention: q, k, v must be [B, S, H, D], got ",
              q.sizes(), ", ", k.sizes(), ", ", v.sizes());
  TORCH_CHECK(k.sizes() == v.sizes(), "attention: k ", k.sizes(), " and v ", v.sizes(), " differ");
  TORCH_CHECK(q.size(0) == k.size(0), "attention: batch of q ", q.sizes(), " and k ", k.sizes(), " differs");
  TORCH_CHECK(q.size(3) == k.size(3) && q.size(3) > 0, "attention: head dimension of q ", q.sizes(),
              " and k ", k.sizes(), " differs or is zero");
  TORCH_CHECK(k.size(2) > 0 && q.size(2) % k.size(2) == 0, "attention: heads of q ", q.sizes(),
              " are not a multiple of those of k ", k.sizes());
  TORCH_CHECK(q.scalar_type() == k.scalar_type() && q.scalar_type() == v.scalar_type(),
              "attention: dtypes differ: ", q.scalar_type(), ", ", k.scalar_type(), ", ", v.scalar_type());
  TORCH_CHECK(q.device() == k.device() && q.device() == v.device(), "attention: devices differ: ", q.device(),
              ", ", k.device(), ", ", v.device());
  TORCH_CHECK(q.stride(3) == 1 && k.stride(3) == 1 && v.stride(3) == 1,
              "attention: the head dimension must be contiguous, got strides ", q.strides(), ", ",
              k.strides(), ", ", v.strides());
  if (!call.out.defined()) return;
  TORCH_CHECK(call.out.sizes() == q.sizes() && call.out.scalar_type() == q.scalar_type() &&
                  call.out.device() == q.device() && call.out.stride(3) == 1,
              "attention: out ", call.out.sizes(), " does not fit q ", q.sizes());
}

void require_supported(const Backend& backend, const Problem& problem) {
  const std::string reason = backend.unsupported(problem);
  if (reason.empty()) return;
  throw Error(fmt::format("attention '{}' cannot run here: {}", backend.name(), reason),
              fmt::format("choose another, or let it fall back: prefer({},sdpa)", backend.name()));
}

}  // namespace sagelab::attention
