// SPDX-License-Identifier: Apache-2.0
#include "attention/fused/fused.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <fmt/format.h>

#include "attention/dtype.h"
#include "attention/fused/gather.h"
#include "attention/fused/rows.h"

namespace sagelab::attention {
namespace {

// Where the rows of a stream go: rows [offset, offset + S) of all [B, total, H, D]; undefined: not copied.
struct Place {
  const at::Tensor& all;
  int64_t offset;
};

kernel::Stream stream_of(const at::Tensor& in, const Place& to, const Norm& norm, bool rotate,
                         Floats& floats) {
  kernel::Stream s;
  if (!in.defined() || !to.all.defined()) return s;
  s.in = rows_of(in, norm, rotate, floats);
  s.out = static_cast<char*>(to.all.data_ptr()) + to.offset * to.all.stride(1) * to.all.element_size();
  s.out_batch = to.all.stride(0), s.out_token = to.all.stride(1);
  return s;
}

void launch(const Segment& segment, const Gathered& all, int64_t q_offset, int64_t k_offset) {
  Floats floats;
  const Rope& rope = segment.rope;
  kernel::GatherParams p;
  p.batch = int(segment.k.size(0)), p.tokens = segment.k.size(1), p.head_dim = int(segment.k.size(3));
  p.rotation = rotation_of(rope, segment.k.device(), floats);
  p.streams[0] = stream_of(segment.q, {all.q, q_offset}, segment.q_norm, !rope.empty(), floats);
  p.streams[1] = stream_of(segment.k, {all.k, k_offset}, segment.k_norm, !rope.empty(), floats);
  p.streams[2] = stream_of(segment.v, {all.v, k_offset}, {}, false, floats);
  C10_CUDA_CHECK(
      kernel::launch_gather(p, *kernel_scalar(segment.k.scalar_type()), c10::cuda::getCurrentCUDAStream()));
}

}  // namespace

std::string fused_gather_unsupported(const JointCall& call) {
  for (const Segment& s : call.segments) {
    if (!s.k.is_cuda()) return fmt::format("the fused gather runs on CUDA, not on {}", s.k.device().str());
    if (!kernel_scalar(s.k.scalar_type())) {
      return fmt::format("the fused gather takes fp32, fp16 and bf16, not {}",
                         c10::toString(s.k.scalar_type()));
    }
    const int64_t d = s.k.size(3);
    if (d % 8 != 0 || d > 256)
      return fmt::format("the fused gather takes head dims 8, 16, ... 256, not {}", d);
    const at::Tensor& frequencies = s.rope.frequencies;
    if (frequencies.defined() && s.q.defined() && s.q.size(2) != s.k.size(2)) {
      return "the fused gather takes per-head frequencies only where q and k have the same heads";
    }
    if (!rows_aligned(s.k) || !rows_aligned(s.v) || (s.q.defined() && !rows_aligned(s.q))) {
      return "the fused gather takes rows that start on 16 bytes";
    }
  }
  return {};
}

Gathered fused_gather(const JointCall& call) {
  const std::string reason = fused_gather_unsupported(call);
  TORCH_CHECK(reason.empty(), reason);
  const Problem problem = problem_of(call);
  const c10::cuda::CUDAGuard guard(problem.device);
  const auto options = at::TensorOptions().device(problem.device).dtype(problem.dtype);
  const int64_t b = problem.batch, d = problem.head_dim;
  const bool one = call.segments.size() == 1;

  Gathered all;
  all.fused = true;
  all.q = at::empty({b, problem.q_len, problem.heads, d}, options);
  all.k = at::empty({b, problem.kv_len, problem.kv_heads, d}, options);
  if (!one) all.v = at::empty({b, problem.kv_len, problem.kv_heads, d}, options);
  int64_t q_offset = 0, k_offset = 0;
  for (const Segment& segment : call.segments) {
    launch(segment, all, q_offset, k_offset);
    if (segment.q.defined()) q_offset += segment.q.size(1);
    k_offset += segment.k.size(1);
  }
  if (one) all.v = call.segments[0].v;
  return all;
}

}  // namespace sagelab::attention
