// SPDX-License-Identifier: Apache-2.0
// The twin against its own arithmetic written with ATen operations in fp64, against the truth, and its
// rounding against every value there is.
#include "attention/sage2/twin.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "attention/joint.h"
#include "attention/recorder.h"
#include "attention/registry.h"
#include "attention/sage2/cpu/softmax.h"
#include "attention/sage2/layout.h"
#include "tests/attention/sage2/inputs.h"

namespace sagelab::attention::sage2::test {
namespace {

using at::indexing::None;
using at::indexing::Slice;

TEST(TwinRounding, E4m3IsTheNearestValueTiesToEven) {
  const at::Tensor values =
      at::arange(0, 127).to(at::kByte).view(at::kFloat8_e4m3fn).to(at::kFloat);  // 0 to 448
  const float* v = values.const_data_ptr<float>();
  std::vector<float> x, expected;
  for (int i = 0; i + 1 < 127; ++i) {
    const float middle = (v[i] + v[i + 1]) / 2;
    for (const auto& [at, to] : {std::pair{v[i], i},
                                 {std::nextafter(middle, 0.f), i},
                                 {middle, i + i % 2},
                                 {std::nextafter(middle, 1e9f), i + 1}}) {
      x.push_back(at), expected.push_back(v[to]);
    }
  }
  for (const float large : {448.f, 449.f, 480.f, 1e6f}) x.push_back(large), expected.push_back(448);
  round_e4m3_all(x.data(), int(x.size()));
  EXPECT_EQ(x, expected);
}

TEST(TwinRounding, HalfIsAtens) {
  at::Tensor x =
      at::cat({normal({4096}, 1, at::kFloat, at::kCPU), normal({4096}, 2, at::kFloat, at::kCPU, 1e-6),
               normal({4096}, 3, at::kFloat, at::kCPU, 1e4)});
  const at::Tensor expected = x.to(at::kHalf).to(at::kFloat);
  round_half_all(x.data_ptr<float>(), int(x.numel()));
  EXPECT_TRUE(x.equal(expected));
}

TEST(TwinRounding, Exp2) {
  at::Tensor x = at::cat({at::linspace(-126, 9, 100001), at::arange(-126, 10).to(at::kFloat)});
  const at::Tensor expected = at::exp2(x.to(at::kDouble));
  exp2_all(x.data_ptr<float>(), int(x.numel()));
  EXPECT_LT((x.to(at::kDouble) / expected - 1).abs().max().item<double>(), 1.5e-7);
  std::vector<float> edges{0, -127, -200, -std::numeric_limits<float>::infinity()};
  exp2_all(edges.data(), 4);
  EXPECT_EQ(edges, (std::vector<float>{1, 0, 0, 0}));
}

at::Tensor round_p(const at::Tensor& p, Pv pv) {
  const at::Tensor x = p.to(at::kFloat);
  return (pv == Pv::Fp16 ? x.to(at::kHalf) : x.clamp_max(448).to(at::kFloat8_e4m3fn)).to(at::kDouble);
}

// One head of the kernels' arithmetic in fp64: tiles of keys from the last to the first.
struct Model {
  at::Tensor q, k, v, q_scale, k_scale, v_scale,
      delta;  // one head: [rows, D], [rows], v_scale [tiles or 1, D]

  Output run(const Settings& s, int64_t kv_len, double scale) const {
    const int64_t rows = q.size(0), keys = kv_rows(s.arch);
    // On Hopper, of up to 64 channels, a row's maximum stays while no score's exponential is more than 8
    // times the maximum's.
    const double slack = s.arch == Arch::Sm90 && s.v != VScale::Tile && v.size(1) <= 64 ? 3 : 0;
    const double offset = s.pv == Pv::Fp16 ? 0 : std::log2(448.) - slack;
    at::Tensor most = at::full({rows}, -std::numeric_limits<double>::infinity(), at::kDouble);
    at::Tensor sum = at::zeros({rows}, at::kDouble), out = at::zeros({rows, v.size(1)}, at::kDouble);
    for (int64_t t = (kv_len + keys - 1) / keys - 1; t >= 0; --t) {
      const Slice here(t * keys, std::min(kv_len, (t + 1) * keys));
      at::Tensor x = at::matmul(q, k.index({here}).t()) * q_scale.unsqueeze(1) * k_scale.index({here});
      if (delta.defined()) x = x + delta.index({Slice(), here});
      x = x * (scale * std::log2(std::exp(1.)));
      const at::Tensor here_most = x.amax(1), now = at::where(here_most > most + slack, here_most, most);
      const at::Tensor rescale = at::exp2(most - now);
      const at::Tensor p = at::exp2(x - now.unsqueeze(1) + offset), rounded = round_p(p, s.pv);
      sum = sum * rescale + (s.sum == Sum::Fp32 ? p : rounded).sum(1);
      at::Tensor product = at::matmul(rounded, v.index({here}));
      if (s.v == VScale::Tile) product = product * v_scale[t];
      out = out * rescale.unsqueeze(1) + product;
      most = now;
    }
    out = out / sum.unsqueeze(1);
    if (s.v != VScale::Tile) out = out * v_scale[0];
    return {out, (most + at::log2(sum) - offset) * std::log(2.)};
  }
};

Output model_of(const Quantized& x, const Call& call, const Settings& s) {
  const int64_t keys = kv_rows(s.arch), dim = call.q.size(3), group = call.q.size(2) / call.k.size(2);
  const Unpacked u = unpack(x, s, dim);
  std::vector<int64_t> q_index, k_index;
  for (int64_t r = 0; r < u.q.size(2); ++r)
    q_index.push_back(r / 128 * x.q_scale.size(3) + q_scale_index(int(r % 128), q_group(s.arch)));
  for (int64_t r = 0; r < u.k.size(2); ++r) k_index.push_back(r / keys * 4 + k_scale_index(int(r % keys)));
  Output all{at::empty(call.q.sizes(), at::kDouble),
             at::empty(x.q_shift.defined() ? x.q_shift.sizes() : at::IntArrayRef({0}), at::kDouble)};
  for (int64_t b = 0; b < call.q.size(0); ++b) {
    for (int64_t h = 0; h < call.q.size(2); ++h) {
      const auto real = [&](const at::Tensor& t) { return t.narrow(0, 0, call.q.size(1)).to(at::kDouble); };
      Model m{real(u.q[b][h]),
              u.k[b][h / group].to(at::kDouble),
              u.v[b][h / group].to(at::kDouble),
              real(x.q_scale[b][h].flatten().index_select(0, at::tensor(q_index))),
              x.k_scale[b][h / group].flatten().index_select(0, at::tensor(k_index)).to(at::kDouble),
              x.v_scale[b][h / group].narrow(1, 0, dim).to(at::kDouble),
              {}};
      if (x.delta.defined()) m.delta = real(x.delta[b][h].repeat_interleave(128, 0));
      const Output one = m.run(s, call.k.size(1), call.scale);
      at::Tensor out = one.out;
      if (x.v_mean.defined()) out = out + x.v_mean[b][h / group].narrow(0, 0, dim);
      all.out.index_put_({b, Slice(), h}, out);
      if (x.q_shift.defined()) all.lse[b][h].copy_(one.lse + x.q_shift[b][h] * call.scale);
    }
  }
  return all;
}

class Twin : public testing::TestWithParam<const char*> {};

// 1e-3 is what probabilities on a rounding boundary leave; quantization itself costs 30 times that.
TEST_P(Twin, IsItsArithmetic) {
  const Settings s = settings_of(GetParam());
  // The last shape's maxima move in later tiles, too, by more than the slack.
  for (const auto& [shape, size] : {std::pair{Shape{200, 333, 64, 4, 2, 2}, 1},
                                    {Shape{130, 257, 128}, 1},
                                    {Shape{3, 5, 40}, 1},
                                    {Shape{70, 600, 64}, 6}}) {
    Call call = call_of(shape);
    call.q = call.q * size;
    call.want_lse = s.smooth_k != Mean::Off;
    const Quantized x = quantize(call, s);
    const Output twin = attend(x, call, s), model = model_of(x, call, s);
    const bool half_sums = s.pv == Pv::Fp8Half;  // which the model leaves out
    EXPECT_LT(relative_error(twin.out, model.out), half_sums ? 2e-3 : 1e-3);
    if (call.want_lse) {
      EXPECT_LT((twin.lse.to(at::kDouble) - model.lse).abs().max().item<double>(),
                s.sum == Sum::Matrix ? 2e-4 : 2e-5);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Every, Twin,
                         testing::Values("sage2", "sage2(arch=sm80)", "sage2(arch=sm89)", "sage2(pv=fp8half)",
                                         "sage2(qk=int4)", "sage2(arch=sm80,qk=int4)", "sage2(v=tile)",
                                         "sage2(sum=fp32)", "sage2(smooth_v=full,v=tile)", "sage2(mean=off)",
                                         "sage2(mean=full,smooth_v=off,v=channel,sum=fp32)"));

TEST(Twin, CausalIsAlignedBottomRight) {
  for (const auto& [q_len, kv_len] : {std::pair{300, 300}, {100, 400}, {400, 100}}) {
    for (const char* spec : {"sage2", "sage2(arch=sm80)", "sage2(qk=int4)"}) {
      Call call = call_of({q_len, kv_len, 64, 4, 2, 1, true});
      call.want_lse = true;
      const Settings s = settings_of(spec);
      const Output twin = twin_of(call, s);
      const attention::test::Exact exact = exact_of(call);
      EXPECT_LT(relative_error(twin.out, exact.out), s.qk == Qk::Int4 ? .31 : .058) << spec << q_len;
      EXPECT_TRUE(at::allclose(twin.lse.to(at::kDouble), exact.lse, 1e-5, s.qk == Qk::Int4 ? 1.2 : .065));
      if (q_len > kv_len) {
        EXPECT_TRUE(twin.out.narrow(1, 0, q_len - kv_len).eq(0).all().item<bool>());
      }
    }
  }
}

TEST(Twin, AsManyThreadsTheSameBits) {
  const Call call = call_of({300, 300, 64, 3, 3, 2});
  const Settings s;
  const at::Tensor many = twin_of(call, s).out;
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  EXPECT_TRUE(twin_of(call, s).out.equal(many));
  at::set_num_threads(threads);
}

// As the kernels do, it quantizes what norm and RoPE give before that is rounded to the call's type.
TEST(Twin, JointCallsAreNotRoundedBeforeTheyAreQuantized) {
  attention::test::JointShape shape;
  shape.dtype = at::kBFloat16;
  attention::test::JointCase joint(shape);
  const BackendPtr backend = make_backend("sage2");
  Recorder recorder;
  backend->run_joint(joint.call(), recorder);
  std::vector<Segment> wide = joint.segments;
  for (Segment& s : wide) {
    for (at::Tensor* x : {&s.q, &s.k, &s.v, &s.out}) *x = x->to(at::kFloat);
  }
  const auto attend_to = [&](const Gathered& g) {
    Call call;
    call.q = g.q.to(at::kFloat), call.k = g.k.to(at::kFloat), call.v = g.v.to(at::kFloat),
    call.scale = joint.scale;
    return backend->run(call, recorder).out.to(at::kBFloat16);
  };
  EXPECT_TRUE(joint.outs().equal(attend_to(gather({wide, joint.scale, {}}))));
  EXPECT_FALSE(joint.outs().equal(attend_to(gather(joint.call()))));
}

// Set A: K with channel offsets of std 8. The official Hopper kernel shows 1-cos 7.3e-4 and L1 .0382 on 8
// heads x 4096 x 128.
Call offset_keys(int64_t tokens, int64_t heads, double v_bias = 0) {
  Call call = call_of({tokens, tokens, 128, heads, heads}, 5);
  call.k =
      (call.k + normal({1, 1, heads, 128}, 77, at::kFloat, at::kCPU, 8)).to(at::kBFloat16).to(at::kFloat);
  call.v = (call.v + normal({1, 1, heads, 128}, 78, at::kFloat, at::kCPU, v_bias))
               .to(at::kBFloat16)
               .to(at::kFloat);
  return call;
}

struct Figures {
  double distance, l1, rmse;  // distance: 1 - cosine
};
Figures figures(const at::Tensor& actual, const at::Tensor& exact) {
  const at::Tensor a = actual.to(at::kDouble), e = exact.to(at::kDouble), d = a - e;
  const double cosine = ((a * e).sum() / (a.norm() * e.norm())).item<double>();
  return {1 - cosine, (d.abs().sum() / e.abs().sum()).item<double>(),
          d.square().mean().sqrt().item<double>()};
}

at::Tensor sdpa_in_fp64(const Call& call) {
  const auto wide = [](const at::Tensor& x) { return x.transpose(1, 2).to(at::kDouble); };
  return at::scaled_dot_product_attention(wide(call.q), wide(call.k), wide(call.v), {}, 0, false, call.scale)
      .transpose(1, 2);
}

TEST(TwinAccuracy, OnKeysWithOffsets) {
  const Call call = offset_keys(2048, 2);
  const at::Tensor exact = sdpa_in_fp64(call);
  const auto of = [&](const char* spec) {
    const Figures f = figures(twin_of(call, settings_of(spec)).out, exact);
    printf("set A, 2 heads x 2048 x 128  %-44s 1-cos %.2e  L1 %.4f  RMSE %.2e\n", spec, f.distance, f.l1,
           f.rmse);
    return f;
  };
  const Figures paper = of("sage2(mean=full,smooth_v=off,v=channel,sum=fp32)");
  EXPECT_NEAR(paper.distance, 7.3e-4, 0.4e-4);
  EXPECT_NEAR(paper.l1, .0382, .001);
  EXPECT_LT(of("sage2(mean=sampled)").l1, 1.05 * paper.l1);
  EXPECT_GT(of("sage2(mean=off)").l1, 1.5 * paper.l1);
  EXPECT_LT(of("sage2(v=tile)").distance, paper.distance);
  // Scales that are no maxima fall otherwise between the values there are: two heads leave some per cent to
  // chance.
  EXPECT_LT(of("sage2").distance, 1.03 * paper.distance);
  EXPECT_LT(of("sage2(mean=sampled,smooth_v=full,v=tile,sum=matrix)").distance, 1.02 * paper.distance);
  // The mean of 16 tokens is off by a quarter of V's spread.
  EXPECT_LT(of("sage2(mean=sampled,smooth_v=sampled,v=tile,sum=matrix)").distance, 1.06 * paper.distance);
  EXPECT_LT(of("sage2(arch=sm80)").l1, paper.l1 / 2);
  EXPECT_NEAR(of("sage2(pv=fp8half)").l1, paper.l1, .05 * paper.l1);
  const double smooth = of("sage2(qk=int4)").l1;
  EXPECT_GT(of("sage2(qk=int4,mean=off)").l1, smooth);
}

TEST(TwinAccuracy, OnBiasedValues) {
  const Call call = offset_keys(2048, 2, 4);
  const at::Tensor exact = sdpa_in_fp64(call);
  const auto of = [&](const char* spec) {
    const Figures f = figures(twin_of(call, settings_of(spec)).out, exact);
    printf("biased V, 2 heads x 2048 x 128  %-41s 1-cos %.2e  L1 %.4f  RMSE %.2e\n", spec, f.distance, f.l1,
           f.rmse);
    return f;
  };
  const Figures paper = of("sage2(mean=full,smooth_v=off,v=channel,sum=fp32)");
  EXPECT_LT(of("sage2(smooth_v=full,sum=matrix)").rmse, paper.rmse / 2);
  EXPECT_LT(of("sage2(smooth_v=sampled,sum=matrix)").rmse, paper.rmse / 2);
  // The rounded probabilities do not sum to the fp32 sum, so the mean that is added back is not quite 1 of
  // it.
  EXPECT_LT(of("sage2(smooth_v=full)").rmse, paper.rmse / 2);
  EXPECT_LT(of("sage2(v=tile,sum=matrix)").rmse, paper.rmse);
}

}  // namespace
}  // namespace sagelab::attention::sage2::test
