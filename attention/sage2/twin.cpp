// SPDX-License-Identifier: Apache-2.0
#include "attention/sage2/twin.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "attention/sage2/cpu/exact_rows.h"
#include "attention/sage2/cpu/softmax.h"
#include "attention/sage2/layout.h"

namespace sagelab::attention::sage2 {

namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr float kLog2E = 1.44269504088896340736f, kLn2 = 0.693147180559945309417f;
constexpr int kMostKeys = 128, kMostDim = 128;
constexpr int kHalfKeys = 32;  // of one instruction with an FP16 accumulator

// Rows of a matrix in memory as a tensor.
at::Tensor matrix(const float* data, int64_t rows, int64_t columns, int64_t pitch) {
  return at::from_blob(const_cast<float*>(data), {rows, columns}, {pitch, 1}, at::kFloat);
}

// The floats of one tile of x [B, heads, tiles, ...].
const float* tile_of(const at::Tensor& x, int64_t batch, int64_t head, int64_t tile) {
  return x.const_data_ptr<float>() + batch * x.stride(0) + head * x.stride(1) + tile * x.stride(2);
}

// What every tile of queries reads.
struct Operand {
  const Quantized& x;
  const Settings& s;
  Problem p;
  float scale = 0;  // times log2(e)
  Unpacked values;
  Output to;

  int keys() const { return kv_rows(s.arch); }
  int64_t kv_head(int64_t head) const { return head / (p.heads / p.kv_heads); }
  float slack() const { return maximum_slack(s, p.head_dim); }
  float offset() const { return s.pv == Pv::Fp16 ? 0.f : std::log2(448.f) - slack(); }
  // Of the scores, a prefix of the keys is seen.
  int64_t seen(int64_t query) const {
    return p.causal ? std::clamp<int64_t>(query + 1 + p.kv_len - p.q_len, 0, p.kv_len) : p.kv_len;
  }
};

// One tile of queries of one head.
class QueryTile {
 public:
  QueryTile(const Operand& in, int64_t batch, int64_t head, int64_t tile)
      : in_(in),
        batch_(batch),
        head_(head),
        tile_(tile),
        first_(tile * kQRows),
        rows_(int(std::min<int64_t>(kQRows, in.p.q_len - first_))),
        dim_(int(in.p.head_dim)) {
    std::fill_n(most_.data(), rows_, kNever);
    const int64_t q_row = ((batch * in.p.heads + head) * in.x.q.size(2) + tile) * kQRows;
    q_matrix_ = matrix(in.values.q.const_data_ptr<float>() + q_row * dim_, rows_, dim_, dim_);
    score_matrix_ = matrix(scores_.data(), rows_, in.keys(), in.keys());
    product_matrix_ = matrix(product_.data(), rows_, dim_, dim_);
    part_matrix_ = matrix(part_.data(), rows_, dim_, dim_);
    const float* scales = tile_of(in.x.q_scale, batch, head, tile);
    for (int r = 0; r < rows_; ++r) q_scale_[r] = scales[q_scale_index(r, q_group(in.s.arch))] * in.scale;
  }

  // The kernels start at the last keys, where the masks are.
  void run() {
    for (int64_t t = tiles(in_.seen(first_ + rows_ - 1), in_.keys()) - 1; t >= 0; --t) key_tile(t);
    write();
  }

 private:
  int64_t kv_row(int64_t key_tile) const {
    const Problem& p = in_.p;
    return ((batch_ * p.kv_heads + in_.kv_head(head_)) * in_.x.k.size(2) + key_tile) * in_.keys();
  }

  void key_tile(int64_t t) {
    const int keys = in_.keys();
    const at::Tensor k = matrix(in_.values.k.const_data_ptr<float>() + kv_row(t) * dim_, keys, dim_, dim_);
    // Exact: every sum of products of these integers is below 2^24.
    at::mm_out(score_matrix_, q_matrix_, k.t());
    probabilities(t);
    values_product(in_.values.v.const_data_ptr<float>() + kv_row(t) * dim_);
    const bool by_tile = in_.s.v == VScale::Tile;
    accumulate(
        {result_.data(), product_.data(), rescale_.data(), by_tile ? v_scale(t) : nullptr, rows_, dim_});
  }

  void probabilities(int64_t t) {
    const int keys = in_.keys();
    float k_scale[kMostKeys], delta[kMostKeys];
    const float* scales = tile_of(in_.x.k_scale, batch_, in_.kv_head(head_), t);
    for (int j = 0; j < keys; ++j) k_scale[j] = scales[k_scale_index(j)];
    if (in_.x.delta.defined()) {
      const float* from = tile_of(in_.x.delta, batch_, head_, tile_) + t * keys;
      for (int j = 0; j < keys; ++j) delta[j] = from[j] * in_.scale;
    }
    int seen[kQRows];
    for (int r = 0; r < rows_; ++r)
      seen[r] = int(std::clamp<int64_t>(in_.seen(first_ + r) - t * keys, 0, keys));
    softmax({scores_.data(), rows_, keys, q_scale_.data(), k_scale, in_.x.delta.defined() ? delta : nullptr,
             seen, in_.offset(), in_.slack(), in_.s.pv, in_.s.sum, most_.data(), sums_.data(),
             rescale_.data()});
  }

  void values_product(const float* v) {
    const int keys = in_.keys();
    if (in_.s.pv != Pv::Fp8Half) {
      at::mm_out(product_matrix_, score_matrix_, matrix(v, keys, dim_, dim_));
      return;
    }
    std::fill_n(product_.data(), rows_ * dim_, 0.f);
    for (int first = 0; first < keys; first += kHalfKeys) {
      const at::Tensor values = matrix(v + first * dim_, kHalfKeys, dim_, dim_);
      at::mm_out(part_matrix_, score_matrix_.narrow(1, first, kHalfKeys), values);
      accumulate_half(product_.data(), part_.data(), rows_ * dim_);
    }
  }

  const float* v_scale(int64_t t) const { return tile_of(in_.x.v_scale, batch_, in_.kv_head(head_), t); }

  void write() {
    const at::Tensor& out = in_.to.out;
    const float* scale = in_.s.v == VScale::Tile ? nullptr : v_scale(0);
    const bool smooth = in_.x.v_mean.defined();
    const float* mean = smooth ? tile_of(in_.x.v_mean, batch_, in_.kv_head(head_), 0) : nullptr;
    for (int r = 0; r < rows_; ++r) {
      float* to = out.data_ptr<float>() + ((batch_ * in_.p.q_len + first_ + r) * in_.p.heads + head_) * dim_;
      const float inverse = sums_[r] > 0 ? 1 / sums_[r] : 0;
      for (int d = 0; d < dim_; ++d) {
        const float scaled = result_[r * dim_ + d] * inverse * (scale ? scale[d] : 1.f);
        to[d] = mean && sums_[r] > 0 ? scaled + mean[d] : scaled;
      }
    }
    if (in_.to.lse.defined()) write_log_sums();
  }

  void write_log_sums() {
    const int64_t row = (batch_ * in_.p.heads + head_) * in_.p.q_len + first_;
    const float* shift = in_.x.q_shift.defined() ? in_.x.q_shift.const_data_ptr<float>() + row : nullptr;
    for (int r = 0; r < rows_; ++r) {
      const float log_sum = most_[r] + std::log2(sums_[r]) - in_.offset();
      const float shifted = shift ? log_sum + shift[r] * in_.scale : log_sum;
      in_.to.lse.data_ptr<float>()[row + r] = sums_[r] > 0 ? kLn2 * shifted : kNever;
    }
  }

  const Operand& in_;
  int64_t batch_, head_, tile_, first_;
  int rows_, dim_;
  std::array<float, kQRows> q_scale_{}, most_{}, sums_{}, rescale_{};
  std::array<float, kQRows * kMostDim> result_{}, product_, part_;
  std::array<float, kQRows * kMostKeys> scores_;
  at::Tensor q_matrix_, score_matrix_, product_matrix_, part_matrix_;  // of the memory above
};

bool all_finite(const at::Tensor& q, const RowOf& at) {
  const float* row =
      q.const_data_ptr<float>() + at.batch * q.stride(0) + at.query * q.stride(1) + at.head * q.stride(2);
  return std::all_of(row, row + q.size(3), [](float x) { return std::fabs(x) <= kLargest; });
}

std::vector<RowOf> rows_to_repair(const Quantized& x, const Call& call) {
  const Problem p = problem_of(call);
  const at::Tensor odd_heads = x.kv_odd.any(2).contiguous(), odd_tiles = x.q_odd.contiguous();
  std::vector<RowOf> rows;
  for (int64_t i = 0; i < p.batch * p.heads; ++i) {
    const int64_t b = i / p.heads, h = i % p.heads;
    const bool all = odd_heads.const_data_ptr<uint8_t>()[b * p.kv_heads + h / (p.heads / p.kv_heads)];
    const uint8_t* odd = odd_tiles.const_data_ptr<uint8_t>() + i * x.q_odd.size(2);
    for (int64_t query = 0; query < p.q_len; ++query) {
      const RowOf at{b, h, query};
      if (all || (odd[query / kQRows] && !all_finite(call.q, at))) rows.push_back(at);
    }
  }
  return rows;
}

}  // namespace

Output attend(const Quantized& x, const Call& call, const Settings& settings) {
  const Problem p = problem_of(call);
  Output to{at::empty(call.q.sizes(), at::kFloat), {}};
  if (call.want_lse) to.lse = at::empty({p.batch, p.heads, p.q_len}, at::kFloat);
  const Operand in{x, settings, p, float(call.scale) * kLog2E, unpack(x, settings, p.head_dim), to};
  const int64_t q_tiles = x.q.size(2);
  at::parallel_for(0, p.batch * p.heads * q_tiles, 1, [&](int64_t begin, int64_t end) {
    const c10::InferenceMode
        inference;  // belongs to the thread; without it each product costs twice its dispatch
    for (int64_t i = begin; i < end; ++i) {
      QueryTile(in, i / q_tiles / p.heads, i / q_tiles % p.heads, i % q_tiles).run();
    }
  });
  exact_rows(call, rows_to_repair(x, call), to);
  return to;
}

}  // namespace sagelab::attention::sage2
