// SPDX-License-Identifier: Apache-2.0
#include "attention/sage2/cpu/exact_rows.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace sagelab::attention::sage2 {

namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

float product(const float* a, const float* b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// One row: its result [dim], returns the logarithm of its sum.
float exact_row(const Call& call, const RowOf& at, float* out) {
  const Problem p = problem_of(call);
  const int64_t group = p.heads / p.kv_heads, head = at.head / group;
  const int64_t seen =
      p.causal ? std::clamp<int64_t>(at.query + 1 + p.kv_len - p.q_len, 0, p.kv_len) : p.kv_len;
  const auto row = [&](const at::Tensor& x, int64_t token, int64_t h) {
    return x.const_data_ptr<float>() + at.batch * x.stride(0) + token * x.stride(1) + h * x.stride(2);
  };
  std::fill_n(out, p.head_dim, 0.f);
  if (seen == 0) return kNever;
  const float* q = row(call.q, at.query, at.head);
  std::vector<float> weight(seen);
  float most = kNever, sum = 0;
  for (int64_t j = 0; j < seen; ++j) {
    weight[j] = product(q, row(call.k, j, head), p.head_dim) * float(call.scale);
    most = std::max(most, weight[j]);
  }
  for (float& w : weight) sum += w = std::exp(w - most);
  for (int64_t j = 0; j < seen; ++j) {
    const float *v = row(call.v, j, head), w = weight[j] / sum;
    for (int64_t d = 0; d < p.head_dim; ++d) out[d] += w * v[d];
  }
  return most + std::log(sum);
}

}  // namespace

void exact_rows(const Call& call, const std::vector<RowOf>& rows, const Output& result) {
  const at::Tensor &out = result.out, &lse = result.lse;
  TORCH_CHECK(out.is_contiguous() && (!lse.defined() || lse.is_contiguous()),
              "sage2: rows go into contiguous tensors, not strides ", out.strides());
  float* const to = out.data_ptr<float>();
  float* const log_sums = lse.defined() ? lse.data_ptr<float>() : nullptr;
  const int64_t queries = out.size(1), heads = out.size(2), dim = out.size(3);
  at::parallel_for(0, int64_t(rows.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const RowOf& at = rows[i];
      const float log_sum =
          exact_row(call, at, to + ((at.batch * queries + at.query) * heads + at.head) * dim);
      if (log_sums) log_sums[(at.batch * heads + at.head) * queries + at.query] = log_sum;
    }
  });
}

}  // namespace sagelab::attention::sage2
