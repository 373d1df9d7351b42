// SPDX-License-Identifier: Apache-2.0
#include "tests/attention/sage2/gpu/operands.h"

#include <cmath>
#include <sstream>

#include "attention/sage2/layout.h"

namespace sagelab::attention::sage2::test {

namespace {

constexpr const char* kNames[] = {"q", "k", "v", "q_scale", "k_scale", "v_scale", "q_odd", "kv_odd"};

// Note [Sums]. A sum of n terms in fp32 takes at most n roundings, each at most half an ulp of a partial sum
// that is no larger than the sum of the terms' magnitudes. Chunked, as the kernels sum, no term passes
// through more than a hundred of them; they are of either sign, so 4 ulp (of 2^-23) of the mean magnitude
// hold them.
constexpr double kSums = 4. / (1 << 23);

// Each query's tile's mean [B, Sq, H, D].
at::Tensor mean_of_rows(const at::Tensor& q_mean, const at::Tensor& q) {
  const at::Tensor per_row = q_mean.repeat_interleave(kQRows, 2).narrow(2, 0, q.size(1));
  return per_row.transpose(1, 2).narrow(3, 0, q.size(3));
}

std::string text_of(at::IntArrayRef sizes) {
  std::ostringstream text;
  text << sizes;
  return text.str();
}

at::Tensor finite_or_zero(const at::Tensor& x) {
  return at::nan_to_num(x, 0., 0., 0.);
}

at::Tensor visited(const at::Tensor& x, Mean mean) {
  if (mean == Mean::Full) return x;
  std::vector<int64_t> tokens;
  for (int64_t b = 0; b < tiles(x.size(1), kSampleStride); ++b) tokens.push_back(sampled_token(b, x.size(1)));
  return x.index_select(1, at::tensor(tokens));
}

// |actual - a . b| against the magnitudes that were summed, where those are finite.
void expect_products(const at::Tensor& actual, const at::Tensor& expected, const at::Tensor& magnitude) {
  const at::Tensor off = (actual.to(at::kDouble) - expected).abs() - magnitude * kSums;
  EXPECT_LE(off.max().item<double>(), 1e-30);
}

void expect_delta(const Quantized& gpu, const Call& wide) {
  const int64_t heads = gpu.q.size(1), group = heads / gpu.k.size(1);
  at::Tensor k = wide.k.transpose(1, 2);  // [B, Hkv, S, D]
  if (gpu.k_mean.defined()) k = k - gpu.k_mean.narrow(2, 0, k.size(3)).unsqueeze(2);
  const at::Tensor keys = k.repeat_interleave(group, 1).to(at::kDouble).transpose(2, 3);
  const at::Tensor means = gpu.q_mean.narrow(3, 0, k.size(3)).to(at::kDouble);
  const int64_t real = k.size(2);
  expect_products(gpu.delta.narrow(3, 0, real), at::matmul(means, keys), at::matmul(means.abs(), keys.abs()));
  EXPECT_TRUE(gpu.delta.narrow(3, real, gpu.delta.size(3) - real).eq(0).all().item<bool>());
}

void expect_shift(const Quantized& gpu, const Call& wide) {
  const int64_t group = gpu.q.size(1) / gpu.k.size(1);
  const at::Tensor mean = gpu.k_mean.narrow(2, 0, wide.k.size(3)).repeat_interleave(group, 1).to(at::kDouble);
  const at::Tensor q = wide.q.to(at::kDouble);
  expect_products(gpu.q_shift, at::einsum("bshd,bhd->bhs", {q, mean}),
                  at::einsum("bshd,bhd->bhs", {q.abs(), mean.abs()}));
}

}  // namespace

std::string describe(const Settings& s, const Call& call) {
  return fmt::format("{} q {} k {} {}", to_string(s, true), text_of(call.q.sizes()), text_of(call.k.sizes()),
                     attention::test::name_of(call.q.scalar_type()));
}

Quantized on_cpu(const Quantized& x) {
  Quantized y = x;
  for (at::Tensor* t : {&y.q, &y.k, &y.v, &y.q_scale, &y.k_scale, &y.v_scale, &y.k_mean, &y.v_mean, &y.q_mean,
                        &y.delta, &y.q_shift, &y.q_odd, &y.kv_odd}) {
    if (t->defined()) *t = t->cpu();
  }
  return y;
}

Quantized twin_with_means_of(const Quantized& gpu, const Call& wide, const Settings& settings) {
  Settings s = settings;
  Call call = wide;
  call.want_lse = false;
  if (s.smooth_q) {
    call.q = (finite_or_zero(wide.q) - mean_of_rows(gpu.q_mean, wide.q)).contiguous();
    s.smooth_q = false;
  }
  const auto given = [&](const at::Tensor& mean) {
    return mean.defined() ? mean.narrow(2, 0, wide.k.size(3)).contiguous() : mean;
  };
  const Means means{given(gpu.k_mean), given(gpu.v_mean)};
  Quantized twin = quantize(call, s, &means);
  if (settings.smooth_q) twin.q_odd = quantize(wide, s, &means).q_odd;
  return twin;
}

std::string difference(const Quantized& actual, const Quantized& expected) {
  std::string all;
  for (size_t i = 0; i < std::size(kExact); ++i) {
    const at::Tensor &a = actual.*kExact[i], &e = expected.*kExact[i];
    if (same_bits(a, e)) continue;
    all += a.sizes() != e.sizes()
               ? fmt::format("{} {} for {}; ", kNames[i], text_of(a.sizes()), text_of(e.sizes()))
               : fmt::format("{}: {} of {} differ; ", kNames[i], (a != e).sum().item<int64_t>(), a.numel());
  }
  return all;
}

void expect_same_bits(const Quantized& actual, const Quantized& expected) {
  EXPECT_EQ(difference(actual, expected), "");
}

void expect_mean(const at::Tensor& actual, const at::Tensor& x, Mean mean, double relative) {
  const int64_t dim = x.size(3);
  const at::Tensor seen = visited(finite_or_zero(x), mean).to(at::kDouble);
  const at::Tensor off =
      (actual.narrow(2, 0, dim).to(at::kDouble) - seen.mean(1)).abs() - seen.abs().mean(1) * relative;
  EXPECT_LE(off.max().item<double>(), 1e-30);
  EXPECT_TRUE(actual.narrow(2, dim, actual.size(2) - dim).eq(0).all().item<bool>()) << "padding of a mean";
}

void expect_v_mean(const at::Tensor& actual, const Call& wide, const Settings& s, double relative) {
  const at::Tensor own = quantize(wide, s).v_mean.to(at::kDouble),
                   v = visited(finite_or_zero(wide.v), s.smooth_v);
  const at::Tensor magnitude = v.abs().mean(1).to(at::kDouble);  // [B, Hkv, D]
  const int64_t dim = magnitude.size(2);
  const at::Tensor off = (actual.to(at::kDouble) - own).abs();
  EXPECT_LE((off.narrow(2, 0, dim) - magnitude * relative).max().item<double>(), 1e-30);
  EXPECT_TRUE(actual.narrow(2, dim, actual.size(2) - dim).eq(0).all().item<bool>()) << "padding of a mean";
}

void expect_sums(const Quantized& gpu, const Call& wide, const Settings& s) {
  EXPECT_EQ(gpu.k_mean.defined(), s.smooth_k != Mean::Off);
  EXPECT_EQ(gpu.v_mean.defined(), s.smooth_v != Mean::Off);
  if (gpu.k_mean.defined()) expect_mean(gpu.k_mean, wide.k, s.smooth_k, kSums);
  if (gpu.v_mean.defined()) expect_v_mean(gpu.v_mean, wide, s, kSums);
  if (gpu.q_shift.defined()) expect_shift(gpu, wide);
  if (!s.smooth_q) return;
  for (int64_t t = 0; t < gpu.q_mean.size(2); ++t) {
    const int64_t first = t * kQRows, rows = std::min<int64_t>(kQRows, wide.q.size(1) - first);
    expect_mean(gpu.q_mean.select(2, t), wide.q.narrow(1, first, rows), Mean::Full, kSums);
  }
  expect_delta(gpu, wide);
}

}  // namespace sagelab::attention::sage2::test
