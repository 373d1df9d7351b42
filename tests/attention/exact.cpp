// SPDX-License-Identifier: Apache-2.0
#include "tests/attention/exact.h"

#include <ATen/CPUGeneratorImpl.h>

#include <cmath>
#include <limits>

namespace sagelab::attention::test {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kSentinel = 77;
constexpr int64_t kExtraColumns = 24;

at::Tensor in_double(const at::Tensor& t) {
  return t.to(at::kCPU).to(at::kDouble).contiguous();
}

void norm_row(double* x, int64_t dim, const Norm& norm) {
  if (norm.kind == Norm::Kind::None) return;
  double mean = 0, square = 0;
  if (norm.kind == Norm::Kind::Layer) {
    for (int64_t d = 0; d < dim; ++d) mean += x[d] / static_cast<double>(dim);
  }
  for (int64_t d = 0; d < dim; ++d) square += (x[d] - mean) * (x[d] - mean) / static_cast<double>(dim);
  const double factor = 1 / std::sqrt(square + norm.eps);
  const at::Tensor w = norm.weight.defined() ? in_double(norm.weight) : at::ones({dim}, at::kDouble);
  const at::Tensor b = norm.bias.defined() ? in_double(norm.bias) : at::zeros({dim}, at::kDouble);
  const double *weight = w.const_data_ptr<double>(), *bias = b.const_data_ptr<double>();
  for (int64_t d = 0; d < dim; ++d) x[d] = (x[d] - mean) * factor * weight[d] + bias[d];
}

// cos and sin [S, H, D/2] of a segment; undefined without RoPE.
std::pair<at::Tensor, at::Tensor> angles(const Rope& rope, int64_t heads) {
  if (rope.empty()) return {};
  if (rope.cos.defined()) {
    const int64_t rows = rope.cos.size(0), half = rope.cos.size(1);
    const auto per_head = [&](const at::Tensor& t) {
      return in_double(t).unsqueeze(1).expand({rows, heads, half}).contiguous();
    };
    return {per_head(rope.cos), per_head(rope.sin)};
  }
  const at::Tensor angle =
      at::einsum("sa,ahd->shd", {in_double(rope.positions), in_double(rope.frequencies)});
  return {angle.cos().contiguous(), angle.sin().contiguous()};
}

at::Tensor exact_rows(const at::Tensor& x, const Norm& norm, const Rope& rope) {
  at::Tensor y = in_double(x).clone();
  const int64_t batch = y.size(0), rows = y.size(1), heads = y.size(2), dim = y.size(3);
  const auto [cos, sin] = angles(rope, heads);
  double* p = y.data_ptr<double>();
  for (int64_t i = 0; i < batch * rows * heads; ++i, p += dim) {
    norm_row(p, dim, norm);
    if (rope.empty()) continue;
    const int64_t row = i / heads % rows, head = i % heads;
    const double* c = cos.const_data_ptr<double>() + (row * heads + head) * (dim / 2);
    const double* s = sin.const_data_ptr<double>() + (row * heads + head) * (dim / 2);
    for (int64_t j = 0; j < dim / 2; ++j) {
      const double even = p[2 * j], odd = p[2 * j + 1];
      p[2 * j] = even * c[j] - odd * s[j];
      p[2 * j + 1] = even * s[j] + odd * c[j];
    }
  }
  return y;
}

}  // namespace

std::vector<at::Device> devices() {
  std::vector<at::Device> all{at::kCPU};
  if (at::hasCUDA()) all.push_back(at::Device(at::kCUDA, 0));
  return all;
}

std::string name_of(at::ScalarType dtype) {
  if (dtype == at::kFloat) return "fp32";
  if (dtype == at::kHalf) return "fp16";
  if (dtype == at::kBFloat16) return "bf16";
  return c10::toString(dtype);
}

at::Tensor normal(at::IntArrayRef sizes, uint64_t seed, at::ScalarType dtype, at::Device device,
                  double scale) {
  const at::Generator generator = at::detail::createCPUGenerator(seed);
  return (at::randn(sizes, generator, at::kFloat) * scale).to(dtype).to(device);
}

double relative_error(const at::Tensor& actual, const at::Tensor& expected) {
  if (!actual.defined() || actual.sizes() != expected.sizes()) return kInfinity;
  const at::Tensor a = actual.to(at::kCPU).to(at::kDouble), e = expected.to(at::kCPU).to(at::kDouble);
  if (!a.isfinite().all().item<bool>()) return kInfinity;
  const double size = e.norm().item<double>(), distance = (a - e).norm().item<double>();
  return size == 0 ? distance : distance / size;
}

Exact exact_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                      bool causal) {
  const int64_t rows = q.size(1), keys = k.size(1), heads = q.size(2), group = heads / k.size(2),
                dim = q.size(3);
  Exact result{at::zeros(q.sizes(), at::kDouble),
               at::full({q.size(0), heads, rows}, -kInfinity, at::kDouble)};
  const auto qa = q.accessor<double, 4>(), ka = k.accessor<double, 4>(), va = v.accessor<double, 4>();
  auto oa = result.out.accessor<double, 4>();
  auto la = result.lse.accessor<double, 3>();
  std::vector<double> score(static_cast<size_t>(keys));
  for (int64_t b = 0; b < q.size(0); ++b) {
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t seen = causal ? std::min(keys, std::max<int64_t>(0, i + keys - rows + 1)) : keys;
        double most = -kInfinity, sum = 0;
        for (int64_t j = 0; j < seen; ++j) {
          double s = 0;
          for (int64_t d = 0; d < dim; ++d) s += qa[b][i][h][d] * ka[b][j][h / group][d];
          score[static_cast<size_t>(j)] = s * scale;
          most = std::max(most, s * scale);
        }
        for (int64_t j = 0; j < seen; ++j) sum += std::exp(score[static_cast<size_t>(j)] - most);
        if (seen > 0) la[b][h][i] = most + std::log(sum);
        for (int64_t j = 0; j < seen; ++j) {
          const double weight = std::exp(score[static_cast<size_t>(j)] - most) / sum;
          for (int64_t d = 0; d < dim; ++d) oa[b][i][h][d] += weight * va[b][j][h / group][d];
        }
      }
    }
  }
  return result;
}

ExactGathered exact_gather(const JointCall& call) {
  std::vector<at::Tensor> q, k, v;
  for (const Segment& s : call.segments) {
    if (s.q.defined()) q.push_back(exact_rows(s.q, s.q_norm, s.rope));
    k.push_back(exact_rows(s.k, s.k_norm, s.rope));
    v.push_back(in_double(s.v));
  }
  return {at::cat(q, 1), at::cat(k, 1), at::cat(v, 1)};
}

JointCase::JointCase(const JointShape& s, uint64_t seed)
    : scale(1 / std::sqrt(static_cast<double>(s.head_dim))) {
  columns_ = s.heads * s.head_dim;
  const auto next = [&](at::IntArrayRef sizes, double size) {
    return normal(sizes, seed++ * 7919, s.dtype, s.device, size);
  };
  const auto next_norm = [&] {
    Norm norm{s.norm, {}, {}, s.eps};
    if (s.weight) norm.weight = next({s.head_dim}, 0.2) + 1;
    if (s.bias) norm.bias = next({s.head_dim}, 0.2);
    return norm;
  };
  for (size_t i = 0; i < s.lengths.size(); ++i) {
    const int64_t rows = s.lengths[i];
    Segment segment;
    // q, k and v of a fused projection: each a view of its columns.
    const at::Tensor qkv = next({s.batch, rows, (s.heads + 2 * s.kv_heads) * s.head_dim}, s.input_scale);
    const auto part = [&](int64_t head, int64_t count) {
      return qkv.narrow(2, head * s.head_dim, count * s.head_dim).unflatten(2, {count, s.head_dim});
    };
    segment.k = part(s.heads, s.kv_heads);
    segment.v = part(s.heads + s.kv_heads, s.kv_heads);
    segment.q_norm = next_norm();
    segment.k_norm = next_norm();
    const auto fp32 = [&](at::IntArrayRef sizes) { return next(sizes, 1).to(at::kFloat); };
    if (s.rope == RopeForm::Tables) {
      const at::Tensor angle = fp32({rows, s.head_dim / 2}) * 2;
      segment.rope.cos = angle.cos();
      segment.rope.sin = angle.sin();
    } else if (s.rope == RopeForm::Positions) {
      segment.rope.positions = fp32({rows, 3});
      segment.rope.frequencies = fp32({3, s.kv_heads, s.head_dim / 2});
    }
    if (s.queries[i]) {
      segment.q = part(0, s.heads);
      const int64_t width = columns_ + (s.wide_out ? kExtraColumns : 0);
      out_buffers_.push_back(at::empty({s.batch, rows, width}, qkv.options()));
      segment.out = out_buffers_.back().narrow(2, 0, columns_).unflatten(2, {s.heads, s.head_dim});
    }
    segments.push_back(std::move(segment));
  }
  poison();
}

void JointCase::poison() {
  for (at::Tensor& buffer : out_buffers_) {
    buffer.fill_(kSentinel);
    buffer.narrow(2, 0, columns_).fill_(std::numeric_limits<double>::quiet_NaN());
  }
}

bool JointCase::surroundings_untouched() const {
  for (const at::Tensor& buffer : out_buffers_) {
    const at::Tensor rest = buffer.narrow(2, columns_, buffer.size(2) - columns_);
    if (!(rest == kSentinel).all().item<bool>()) return false;
  }
  return true;
}

at::Tensor JointCase::outs() const {
  std::vector<at::Tensor> all;
  for (const Segment& s : segments) {
    if (s.out.defined()) all.push_back(s.out);
  }
  return at::cat(all, 1);
}

}  // namespace sagelab::attention::test
