// SPDX-License-Identifier: Apache-2.0
#include "attention/aten/reference.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "attention/recorder.h"
#include "attention/spec.h"

namespace sagelab::attention {

namespace {

constexpr int64_t kChunkScores = int64_t{1} << 25;
constexpr double kNever = -std::numeric_limits<double>::infinity();

int64_t chunk_rows(const Problem& p) {
  const int64_t row = std::max<int64_t>(1, p.batch * p.heads * p.kv_len);
  return std::clamp<int64_t>(kChunkScores / row, 1, std::max<int64_t>(1, p.q_len));
}

// [B, S, Hkv, D] -> [B, H, S, D] in dtype, each head repeated for its group.
at::Tensor per_head(const at::Tensor& x, int64_t heads, at::ScalarType dtype) {
  const at::Tensor y = x.transpose(1, 2).to(dtype);
  return y.size(1) == heads ? y : y.repeat_interleave(heads / y.size(1), 1);
}

// Scaled scores [B, H, rows, Skv] of q's rows from first on; those of unseen keys are -inf.
at::Tensor scores(const Call& call, const at::Tensor& k, int64_t first, int64_t rows) {
  const Problem p = problem_of(call);
  const at::Tensor q = call.q.narrow(1, first, rows).transpose(1, 2).to(k.scalar_type());
  at::Tensor s = at::matmul(q, k.transpose(2, 3)) * call.scale;
  if (!call.causal) return s;
  const at::Tensor seen =
      at::ones({rows, p.kv_len}, s.options().dtype(at::kBool)).tril(first + p.kv_len - p.q_len);
  return s.masked_fill(seen.logical_not(), kNever);
}

}  // namespace

std::string Reference::unsupported(const Problem& problem) const {
  if (at::isFloatingType(problem.dtype)) return {};
  return std::string("it takes floating point, not ") + c10::toString(problem.dtype);
}

Output Reference::run(const Call& call, Recorder& recorder) const {
  check_call(call);
  const Problem p = problem_of(call);
  require_supported(*this, p);
  Output result;
  result.out = call.out.defined() ? call.out : at::empty_like(call.q, at::MemoryFormat::Contiguous);
  if (call.want_lse) result.lse = at::empty({p.batch, p.heads, p.q_len}, call.q.options().dtype(at::kFloat));
  const at::Tensor k = per_head(call.k, p.heads, at::kDouble), v = per_head(call.v, p.heads, at::kDouble);
  const int64_t step = chunk_rows(p);
  for (int64_t first = 0; first < p.q_len; first += step) {
    const int64_t rows = std::min(step, p.q_len - first);
    const at::Tensor s = scores(call, k, first, rows);
    const at::Tensor lse = at::logsumexp(s, {-1}, true);
    // A row that sees no key attends to nothing: its output is zero.
    const at::Tensor weights = at::exp(s - lse).masked_fill(lse == kNever, 0.0);
    result.out.narrow(1, first, rows).copy_(at::matmul(weights, v).transpose(1, 2));
    if (call.want_lse) result.lse.narrow(2, first, rows).copy_(lse.squeeze(-1));
  }
  recorder.served(call.site, name(), call.fused);
  return result;
}

// k and v in fp64, and of a chunk the scores, the weights and the two between them.
int64_t Reference::run_bytes(const Problem& p) const {
  const int64_t heads = p.batch * p.heads, wide = int64_t(sizeof(double));
  return Backend::run_bytes(p) + heads * wide * p.kv_len * (2 * p.head_dim + 4 * chunk_rows(p));
}

at::Tensor log_sum_exp(const Call& call) {
  const Problem p = problem_of(call);
  at::Tensor result = at::empty({p.batch, p.heads, p.q_len}, call.q.options().dtype(at::kFloat));
  const at::Tensor k = per_head(call.k, p.heads, at::kFloat);
  const int64_t step = chunk_rows(p);
  for (int64_t first = 0; first < p.q_len; first += step) {
    const int64_t rows = std::min(step, p.q_len - first);
    result.narrow(2, first, rows).copy_(at::logsumexp(scores(call, k, first, rows), {-1}));
  }
  return result;
}

BackendPtr make_reference(Arguments& arguments) {
  arguments.require_all_taken("");
  return std::make_shared<Reference>();
}

}  // namespace sagelab::attention
