// SPDX-License-Identifier: Apache-2.0
#include "attention/sage2/quantized.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/util/Float8_e4m3fn.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <vector>

#include "attention/sage2/layout.h"

namespace sagelab::attention::sage2 {

namespace {

bool finite(float x) {
  return std::fabs(x) <= kLargest;
}

// Half to even.
int rounded(double x) {
  return int(std::lrint(x));
}

// What to multiply by, and the scale that undoes it.
struct Step {
  float inverse = 0, scale = 0;
};
Step step_of(float amax, float range) {
  if (amax < 1e-35f) return {};
  return {range / amax, amax / range};
}
Step half_step_of(float amax) {
  float scale = 1;
  while (amax > 32768.f * scale) scale *= 2;
  return {1 / scale, scale};
}
Step v_step_of(float amax, Pv pv) {
  return pv == Pv::Fp16 ? half_step_of(amax) : step_of(amax, pv == Pv::Fp8 ? 448.f : 2.25f);
}

// One head of q, k or v, and the vector to subtract from its rows; null: nothing.
struct Head {
  const float* data;
  int64_t stride, tokens;
  int dim, padded;
  const float* mean = nullptr;

  // Rows [first, first + rows) to x [rows, padded]; what lies outside is zero. Whether all was finite.
  bool load(int64_t first, int rows, float* x) const {
    bool all = true;
    std::fill_n(x, int64_t{rows} * padded, 0.f);
    for (int r = 0; r < std::min<int64_t>(rows, tokens - first); ++r) {
      const float* from = data + (first + r) * stride;
      float* to = x + int64_t{r} * padded;
      for (int d = 0; d < dim; ++d) {
        const float x = finite(from[d]) ? from[d] : 0.f;
        to[d] = mean ? x - mean[d] : x;
        all = all && finite(from[d]);
      }
    }
    return all;
  }
};

Head head_of(const at::Tensor& x, int64_t b, int64_t h, const at::Tensor& mean = {}) {
  Head head{x.const_data_ptr<float>() + b * x.stride(0) + h * x.stride(2), x.stride(1), x.size(1),
            int(x.size(3)), padded_head_dim(x.size(3))};
  if (mean.defined()) head.mean = mean.const_data_ptr<float>() + (b * x.size(2) + h) * head.padded;
  return head;
}

// f(batch, head, tile), in parallel.
template <class F>
void for_tiles(const at::Tensor& tiles_of, const F& f) {
  const int64_t heads = tiles_of.size(1), count = tiles_of.size(2);
  at::parallel_for(0, tiles_of.size(0) * heads * count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i / count / heads, i / count % heads, i % count);
  });
}

template <class T>
T* tile_of(const at::Tensor& x, int64_t b, int64_t h, int64_t t) {
  return static_cast<T*>(x.data_ptr()) +
         ((b * x.size(1) + h) * x.size(2) + t) *
             (x.numel() / std::max<int64_t>(1, x.size(0) * x.size(1) * x.size(2)));
}

// A row of a tile, its 16-byte chunks where they belong.
void store_row(uint8_t* tile, int row, const uint8_t* bytes, int count) {
  for (int c = 0; c < count; c += 16) std::memcpy(tile + swizzled(row, c, count), bytes + c, 16);
}

void write_row(const float* x, int dim, float inverse, Qk qk, uint8_t* bytes) {
  if (qk == Qk::Int8) {
    for (int c = 0; c < dim; ++c) bytes[c] = uint8_t(rounded(double(x[c]) * inverse));
    return;
  }
  for (int c = 0; c < dim; c += 2) {
    const int low = rounded(double(x[c]) * inverse), high = rounded(double(x[c + 1]) * inverse);
    bytes[c / 2] = uint8_t((low & 15) | (high & 15) << 4);
  }
}

// fp32 x [rows, dim], and the tile that it goes to.
struct Tile {
  const float* x;
  int rows, dim;
  uint8_t* bytes;
};

// Integers with one scale for all rows of one index.
template <class Index>
void write_integers(const Tile& tile, Qk qk, Index index, float* scales) {
  float amax[kQRows] = {};
  for (int r = 0; r < tile.rows; ++r) {
    float most = 0;
    for (int c = 0; c < tile.dim; ++c) most = std::max(most, std::fabs(tile.x[r * tile.dim + c]));
    amax[index(r)] = std::max(amax[index(r)], most);
  }
  for (int r = 0; r < tile.rows; ++r) {
    const Step step = step_of(amax[index(r)], qk == Qk::Int8 ? 127.f : 7.f);
    scales[index(r)] = step.scale;
    uint8_t bytes[kQRows];
    write_row(tile.x + r * tile.dim, tile.dim, step.inverse, qk, bytes);
    store_row(tile.bytes, r, bytes, qk == Qk::Int8 ? tile.dim : tile.dim / 2);
  }
}

// f(row) for the tokens of a head that `mean` chooses, in order; what is not finite counts as zero.
template <class F>
void visit(const Head& head, Mean mean, const F& f) {
  const int64_t count = mean == Mean::Full ? head.tokens : tiles(head.tokens, kSampleStride);
  std::vector<float> row(size_t(head.padded), 0);
  for (int64_t n = 0; n < count; ++n) {
    const float* from = head.data + (mean == Mean::Full ? n : sampled_token(n, head.tokens)) * head.stride;
    for (int d = 0; d < head.dim; ++d) row[d] = finite(from[d]) ? from[d] : 0.f;
    f(row.data());
  }
}

// f(head, its row of to [B, H, padded]) for the heads of x [B, S, H, D], in parallel.
template <class F>
void for_heads(const at::Tensor& x, const at::Tensor& to, const F& f) {
  at::parallel_for(0, x.size(1) == 0 ? 0 : x.size(0) * x.size(2), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      f(head_of(x, i / x.size(2), i % x.size(2)), to.data_ptr<float>() + i * to.size(2));
  });
}

at::Tensor zeros_of_heads(const at::Tensor& x) {
  return at::zeros({x.size(0), x.size(2), padded_head_dim(x.size(3))}, at::kFloat);
}

// Mean over the tokens that `mean` chooses. [B, H, padded]
at::Tensor mean_of(const at::Tensor& x, Mean mean) {
  const at::Tensor result = zeros_of_heads(x);
  for_heads(x, result, [&](const Head& head, float* to) {
    std::vector<double> sum(size_t(head.dim), 0);
    int64_t count = 0;
    visit(head, mean, [&](const float* row) {
      for (int d = 0; d < head.dim; ++d) sum[d] += row[d];
      ++count;
    });
    for (int d = 0; d < head.dim; ++d) to[d] = float(sum[d] / double(count));
  });
  return result;
}

at::Tensor padded_mean(const at::Tensor& given, const at::Tensor& x) {
  TORCH_CHECK(given.sizes() == at::IntArrayRef({x.size(0), x.size(2), x.size(3)}) &&
                  given.scalar_type() == at::kFloat,
              "sage2: a mean ", given.sizes(), " does not fit ", x.sizes());
  return at::constant_pad_nd(given, {0, padded_head_dim(x.size(3)) - x.size(3)}).contiguous();
}

at::Tensor k_mean_of(const at::Tensor& given, const at::Tensor& k, const Settings& s) {
  if (s.smooth_k == Mean::Off) return {};
  return given.defined() ? padded_mean(given, k) : mean_of(k, s.smooth_k);
}

// Largest and smallest value of each channel over the tokens that the settings choose. [B, H, padded]
struct Range {
  at::Tensor most, least;

  // Of |x|.
  at::Tensor largest() const { return at::maximum(most, least.neg()); }
  // Of |x - mean|. [B, H, 1, padded]
  at::Tensor amax(const at::Tensor& mean) const {
    if (!mean.defined()) return largest().unsqueeze(2);
    return at::maximum((most - mean).abs(), (least - mean).abs()).unsqueeze(2);
  }
};

Range v_range_of(const at::Tensor& v, Mean tokens) {
  Range range{zeros_of_heads(v).fill_(-FLT_MAX), zeros_of_heads(v).fill_(FLT_MAX)};
  for_heads(v, range.most, [&](const Head& head, float* most) {
    float* least = range.least.data_ptr<float>() + (most - range.most.data_ptr<float>());
    visit(head, tokens, [&](const float* row) {
      for (int d = 0; d < head.padded; ++d)
        most[d] = std::max(most[d], row[d]), least[d] = std::min(least[d], row[d]);
    });
  });
  return range;
}

at::Tensor v_mean_of(const at::Tensor& given, const at::Tensor& v, const Settings& s) {
  if (s.smooth_v == Mean::Off) return {};
  if (given.defined()) return padded_mean(given, v);
  const at::Tensor mean = mean_of(v, s.smooth_v);
  if (v.size(1) == 0) return mean;
  const at::Tensor largest = v_range_of(v, whole_maxima(s) ? Mean::Full : Mean::Sampled).largest();
  return mean.masked_fill_(mean.abs() < largest * kSmallMean, 0);
}

// Takes the mean of its real rows away from x [rows, dim].
void smooth_rows(float* x, int rows, int dim, float* mean) {
  for (int c = 0; c < dim; ++c) {
    double sum = 0;
    for (int r = 0; r < rows; ++r) sum += x[r * dim + c];
    mean[c] = float(sum / rows);
    for (int r = 0; r < rows; ++r) x[r * dim + c] -= mean[c];
  }
}

void quantize_q(const at::Tensor& q, const Settings& s, Quantized& x) {
  for_tiles(x.q, [&](int64_t b, int64_t h, int64_t t) {
    const Head head = head_of(q, b, h);
    std::vector<float> rows(size_t(kQRows) * head.padded);
    *tile_of<uint8_t>(x.q_odd, b, h, t) = !head.load(t * kQRows, kQRows, rows.data());
    if (s.smooth_q) {
      const int real = int(std::min<int64_t>(kQRows, head.tokens - t * kQRows));
      smooth_rows(rows.data(), real, head.padded, tile_of<float>(x.q_mean, b, h, t));
    }
    const auto index = [group = q_group(s.arch)](int row) { return q_scale_index(row, group); };
    write_integers({rows.data(), kQRows, head.padded, tile_of<uint8_t>(x.q, b, h, t)}, s.qk, index,
                   tile_of<float>(x.q_scale, b, h, t));
  });
}

// smoothed [B, Hkv, tiles * rows, padded] takes what was quantized, where it is defined.
void quantize_k(const at::Tensor& k, const Settings& s, Quantized& x, const at::Tensor& smoothed) {
  const int rows = kv_rows(s.arch);
  for_tiles(x.k, [&](int64_t b, int64_t h, int64_t t) {
    const Head head = head_of(k, b, h, x.k_mean);
    std::vector<float> tile(size_t(rows) * head.padded);
    if (!head.load(t * rows, rows, tile.data())) *tile_of<uint8_t>(x.kv_odd, b, h, t) = 1;
    write_integers({tile.data(), rows, head.padded, tile_of<uint8_t>(x.k, b, h, t)}, s.qk, k_scale_index,
                   tile_of<float>(x.k_scale, b, h, t));
    if (!smoothed.defined()) return;
    float* to = smoothed.data_ptr<float>() + ((b * x.k.size(1) + h) * x.k.size(2) + t) * rows * head.padded;
    std::copy(tile.begin(), tile.end(), to);
  });
}

// Rows of channels.
void write_v(const Tile& tile, Pv pv, const Step* steps) {
  for (int c = 0; c < tile.dim; ++c) {
    uint8_t bytes[kQRows];
    const float *x = tile.x + c, inverse = steps[c].inverse;
    for (int i = 0; i < tile.rows; ++i) {
      if (pv == Pv::Fp16) {
        const uint16_t bits = c10::Half(x[i * tile.dim] * inverse).x;
        std::memcpy(bytes + 2 * i, &bits, 2);
      } else {
        const float scaled = x[fp8_key(i) * tile.dim] * inverse;
        bytes[i] = c10::detail::fp8e4m3fn_from_fp32_value(std::clamp(scaled, -448.f, 448.f));
      }
    }
    store_row(tile.bytes, c, bytes, pv == Pv::Fp16 ? 2 * tile.rows : tile.rows);
  }
}

// Largest |x| of each channel of each tile, smoothed. [B, H, tiles, padded]
at::Tensor tile_maxima(const at::Tensor& v, const Quantized& x, int rows) {
  const int64_t dim = padded_head_dim(v.size(3));
  const at::Tensor amax = at::zeros({x.v.size(0), x.v.size(1), x.v.size(2), dim}, at::kFloat);
  for_tiles(x.v, [&](int64_t b, int64_t h, int64_t t) {
    std::vector<float> tile(size_t(rows) * dim);
    head_of(v, b, h, x.v_mean).load(t * rows, rows, tile.data());
    float* most = tile_of<float>(amax, b, h, t);
    for (int r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < dim; ++c) most[c] = std::max(most[c], std::fabs(tile[r * dim + c]));
    }
  });
  return amax;
}

// Whether a value of the head may lie beyond the range that the scales of amax leave.
bool exceeds(const float* largest, const float* mean, const float* amax, int64_t dim, Pv pv) {
  for (int64_t c = 0; c < dim; ++c) {
    const float reach = largest[c] + (mean ? std::fabs(mean[c]) : 0.f),
                inverse = v_step_of(amax[c], pv).inverse;
    if (inverse == 0 ? reach >= 1e-35f : reach * inverse > 448.f) return true;
  }
  return false;
}

// With room above, and of all tokens in heads that need more. [B, H, 1, padded]
at::Tensor sampled_maxima(const at::Tensor& v, const Quantized& x, Pv pv) {
  const Range all = v_range_of(v, Mean::Full);
  const at::Tensor amax =
      (v_range_of(v, Mean::Sampled).amax(x.v_mean) * kVMargin).clamp_max_(kLargest).contiguous();
  const at::Tensor exact = all.amax(x.v_mean).contiguous(), largest = all.largest().contiguous();
  const int64_t dim = amax.size(3);
  for (int64_t i = 0; i < amax.size(0) * amax.size(1); ++i) {
    const auto row = [&](const at::Tensor& t) { return t.data_ptr<float>() + i * dim; };
    if (exceeds(row(largest), x.v_mean.defined() ? row(x.v_mean) : nullptr, row(amax), dim, pv))
      std::copy_n(row(exact), dim, row(amax));
  }
  return amax;
}

at::Tensor v_maxima(const at::Tensor& v, const Quantized& x, const Settings& s) {
  if (s.v == VScale::Tile || v.size(1) == 0) return tile_maxima(v, x, kv_rows(s.arch));
  return s.v == VScale::Sampled ? sampled_maxima(v, x, s.pv) : v_range_of(v, Mean::Full).amax(x.v_mean);
}

void quantize_v(const at::Tensor& v, const Settings& s, Quantized& x) {
  const int rows = kv_rows(s.arch), dim = padded_head_dim(v.size(3));
  const at::Tensor amax = v_maxima(v, x, s).contiguous();
  const auto scales_of = [&](const at::Tensor& all, int64_t b, int64_t h, int64_t t) {
    return tile_of<float>(all, b, h, s.v == VScale::Tile ? t : 0);
  };
  for_tiles(x.v, [&](int64_t b, int64_t h, int64_t t) {
    std::vector<float> tile(size_t(rows) * dim);
    if (!head_of(v, b, h, x.v_mean).load(t * rows, rows, tile.data()))
      *tile_of<uint8_t>(x.kv_odd, b, h, t) = 1;
    std::vector<Step> steps(dim);
    for (int c = 0; c < dim; ++c) {
      steps[c] = v_step_of(scales_of(amax, b, h, t)[c], s.pv);
      if (s.v == VScale::Tile || t == 0) scales_of(x.v_scale, b, h, t)[c] = steps[c].scale;
    }
    write_v({tile.data(), rows, dim, tile_of<uint8_t>(x.v, b, h, t)}, s.pv, steps.data());
  });
}

}  // namespace

Quantized allocate(const Problem& p, const Settings& s, bool want_lse) {
  const auto bytes = at::TensorOptions().device(p.device).dtype(at::kByte);
  const auto floats = bytes.dtype(at::kFloat);
  const int64_t dim = padded_head_dim(p.head_dim), rows = kv_rows(s.arch);
  const int64_t q_tiles = tiles(p.q_len, kQRows), kv_tiles = tiles(p.kv_len, int(rows));
  const int64_t row_bytes = s.qk == Qk::Int8 ? dim : dim / 2;
  Quantized x;
  x.q = at::empty({p.batch, p.heads, q_tiles, kQRows, row_bytes}, bytes);
  x.k = at::empty({p.batch, p.kv_heads, kv_tiles, rows, row_bytes}, bytes);
  x.v = at::empty({p.batch, p.kv_heads, kv_tiles, dim, s.pv == Pv::Fp16 ? 2 * rows : rows}, bytes);
  x.q_scale = at::empty({p.batch, p.heads, q_tiles, q_scales_per_tile(s.arch)}, floats);
  x.k_scale = at::empty({p.batch, p.kv_heads, kv_tiles, kKScalesPerTile}, floats);
  x.v_scale = at::empty({p.batch, p.kv_heads, s.v == VScale::Tile ? kv_tiles : 1, dim}, floats);
  if (s.smooth_k != Mean::Off) x.k_mean = at::empty({p.batch, p.kv_heads, dim}, floats);
  if (s.smooth_v != Mean::Off) x.v_mean = at::empty({p.batch, p.kv_heads, dim}, floats);
  if (s.smooth_q) {
    x.q_mean = at::empty({p.batch, p.heads, q_tiles, dim}, floats);
    x.delta = at::empty({p.batch, p.heads, q_tiles, kv_tiles * rows}, floats);
  }
  if (want_lse && s.smooth_k != Mean::Off) x.q_shift = at::empty({p.batch, p.heads, p.q_len}, floats);
  x.q_odd = at::empty({p.batch, p.heads, q_tiles}, bytes);
  x.kv_odd = at::empty({p.batch, p.kv_heads, kv_tiles}, bytes);
  return x;
}

Quantized quantize(const Call& call, const Settings& s, const Means* means) {
  const Problem p = problem_of(call);
  TORCH_CHECK(p.dtype == at::kFloat && p.device.is_cpu() && p.head_dim <= 128,
              "sage2: quantize takes fp32 on the CPU up to head dimension 128, not ", p.dtype, " ",
              call.q.sizes(), " on ", p.device);
  Quantized x = allocate(p, s, call.want_lse);
  x.k_mean = k_mean_of(means ? means->k : at::Tensor(), call.k, s);
  x.v_mean = v_mean_of(means ? means->v : at::Tensor(), call.v, s);
  x.v_scale.fill_(s.pv == Pv::Fp16 ? 1 : 0);
  x.kv_odd.zero_();
  const int64_t dim = padded_head_dim(p.head_dim), keys = x.k.size(2) * x.k.size(3);
  at::Tensor smoothed;
  if (s.smooth_q) smoothed = at::empty({p.batch, p.kv_heads, keys, dim}, at::kFloat);
  quantize_q(call.q, s, x);
  quantize_k(call.k, s, x, smoothed);
  quantize_v(call.v, s, x);
  if (s.smooth_q) {
    const at::Tensor by_group =
        x.q_mean.reshape({p.batch, p.kv_heads, p.heads / p.kv_heads * x.q_mean.size(2), dim});
    x.delta = at::matmul(by_group, smoothed.transpose(2, 3)).reshape(x.delta.sizes());
  }
  if (x.q_shift.defined()) {
    const at::Tensor shift = x.k_mean.narrow(2, 0, p.head_dim).repeat_interleave(p.heads / p.kv_heads, 1);
    x.q_shift = at::matmul(call.q.transpose(1, 2), shift.unsqueeze(-1)).squeeze(-1);
  }
  return x;
}

}  // namespace sagelab::attention::sage2
