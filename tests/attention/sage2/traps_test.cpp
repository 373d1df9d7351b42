// SPDX-License-Identifier: Apache-2.0
// What goes wrong in implementations of this algorithm (SageAttention's issues name most), each with the
// naive way beside it where that is cheap to show.
#include <gtest/gtest.h>

#include <limits>

#include "attention/sage2/twin.h"
#include "tests/attention/sage2/inputs.h"

namespace sagelab::attention::sage2::test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
const char* const kSpecs[] = {"sage2", "sage2(arch=sm80)", "sage2(arch=sm89)", "sage2(pv=fp8half)",
                              "sage2(qk=int4)"};

double bound(const Settings& s) {
  return s.qk == Qk::Int4 ? .3 : .06;
}
bool finite(const at::Tensor& x) {
  return at::isfinite(x).all().item<bool>();
}

TEST(Traps, TailsHoldNoGarbage) {
  for (const char* spec : kSpecs) {
    const Settings s = settings_of(spec);
    for (const int64_t length : {1, 9, 63, 65, 127, 129, 200}) {
      const Call call = call_of({length, length});
      Quantized x = quantize(call, s);
      EXPECT_LT(relative_error(attend(x, call, s).out, exact_of(call).out), bound(s))
          << spec << " " << length;
      // With NaN in the rows behind the last key, 0 x NaN is NaN.
      if (s.pv != Pv::Fp16) x.v.select(2, -1).masked_fill_(x.v.select(2, -1) == 0, 0x7f);
      if (s.pv != Pv::Fp16) {
        EXPECT_FALSE(finite(attend(x, call, s).out)) << spec << " " << length;
      }
    }
  }
}

TEST(Traps, AZeroChannelOfV) {
  for (const char* spec : kSpecs) {
    Call call = call_of({70, 70});
    call.v.select(3, 17).zero_();
    const at::Tensor out = twin_of(call, settings_of(spec)).out;
    EXPECT_TRUE(out.select(3, 17).eq(0).all().item<bool>()) << spec;
    EXPECT_TRUE(finite(out));
  }
  const at::Tensor zero = at::zeros({1});
  EXPECT_TRUE((zero * (448 / zero.abs().max())).isnan().all().item<bool>()) << "the naive reciprocal";
}

TEST(Traps, DenormalsAndNegativeZero) {
  for (const float value : {1e-40f, -0.f, 1e-36f}) {
    for (const char* spec : kSpecs) {
      Call call = call_of({70, 70});
      for (at::Tensor* x : {&call.q, &call.k, &call.v}) x->select(2, 0).fill_(value);
      const at::Tensor out = twin_of(call, settings_of(spec)).out;
      EXPECT_TRUE(finite(out)) << spec << value;
      EXPECT_LT(out.select(2, 0).abs().max().item<double>(), 1e-35);
    }
  }
  EXPECT_EQ(127 / 1e-40f, kInfinity) << "the naive reciprocal";
}

TEST(Traps, EqualRows) {
  for (const char* spec : kSpecs) {
    Call call = call_of({150, 150});
    for (at::Tensor* x : {&call.q, &call.k, &call.v}) x->copy_(x->narrow(1, 0, 1).expand_as(*x).clone());
    call.want_lse = true;
    const Output result = twin_of(call, settings_of(spec));
    const attention::test::Exact exact = exact_of(call);
    EXPECT_LT(relative_error(result.out, exact.out), 1e-3) << spec;
    EXPECT_LT((result.lse.to(at::kDouble) - exact.lse).abs().max().item<double>(), 1e-4) << spec;
  }
}

TEST(Traps, OneToken) {
  for (const char* spec : kSpecs) {
    const Settings s = settings_of(spec);
    for (const auto& [q_len, kv_len] : {std::pair{1, 1}, {1, 300}, {300, 1}}) {
      const Call call = call_of({q_len, kv_len, 64, 4, 2});
      EXPECT_LT(relative_error(twin_of(call, s).out, exact_of(call).out), kv_len == 1 ? 1e-3 : bound(s))
          << spec;
    }
  }
}

TEST(Traps, NoTokens) {
  for (const auto& [q_len, kv_len] : {std::pair{0, 9}, {9, 0}, {0, 0}}) {
    for (const char* spec :
         {"sage2", "sage2(qk=int4,smooth_v=full)", "sage2(v=tile,mean=sampled,smooth_v=sampled)"}) {
      Call call = call_of({q_len, kv_len});
      call.want_lse = true;
      const Output result = twin_of(call, settings_of(spec));
      EXPECT_EQ(result.out.sizes(), call.q.sizes());
      EXPECT_TRUE(result.out.eq(0).all().item<bool>());
      EXPECT_TRUE(result.lse.eq(-kInfinity).all().item<bool>());
    }
  }
}

TEST(Traps, VeryLong) {
  const Call call = call_of({3, 170000, 64, 1, 1});
  const Settings s;
  EXPECT_LT(relative_error(twin_of(call, s).out, exact_of(call).out), bound(s));
}

TEST(Traps, TheLseKnowsOfSmoothing) {
  Call call = call_of({70, 150});
  call.k += 5;
  call.want_lse = true;
  const Settings s;
  Quantized x = quantize(call, s);
  const at::Tensor exact = exact_of(call).lse;
  const auto error = [&] {
    return (attend(x, call, s).lse.to(at::kDouble) - exact).abs().max().item<double>();
  };
  EXPECT_LT(error(), .02);
  x.q_shift.reset();
  EXPECT_GT(error(), 1) << "without what smoothing took away";
}

TEST(Traps, HugeOffsetsOfK) {
  Call call = call_of({150, 300, 128});
  call.k += normal({1, 1, 2, 128}, 9, at::kFloat, at::kCPU, 100);
  const at::Tensor exact = exact_of(call).out;
  EXPECT_LT(relative_error(twin_of(call, settings_of("sage2")).out, exact), .06);
  EXPECT_LT(relative_error(twin_of(call, settings_of("sage2(mean=sampled)")).out, exact), .06);
  EXPECT_GT(relative_error(twin_of(call, settings_of("sage2(mean=off)")).out, exact), .5)
      << "without smoothing";
}

TEST(Traps, OneHugeOutlier) {
  Call call = call_of({150, 300});
  call.k[0][40][0][3] = 3e4;
  const Settings s;
  const Quantized x = quantize(call, s);
  // It costs the resolution of its group alone: a quarter of a tile of keys.
  int64_t coarse = x.k_scale.select(1, 0).gt(1).sum().item<int64_t>();
  EXPECT_EQ(coarse, 1);
  EXPECT_LT(relative_error(attend(x, call, s).out.select(2, 1), exact_of(call).out.select(2, 1)), .06);
  EXPECT_TRUE(finite(attend(x, call, s).out));
}

// Scores of millions: a unit of their integers is worth powers of two, and one key takes all.
TEST(Traps, OutliersThatMeet) {
  for (const char* spec : kSpecs) {
    Call call = call_of({150, 300});
    call.q[0][20][0][3] = call.k[0][40][0][3] = 1e4;
    call.want_lse = true;
    const Output result = twin_of(call, settings_of(spec));
    const attention::test::Exact exact = exact_of(call);
    EXPECT_TRUE(finite(result.lse)) << spec;
    EXPECT_LT(relative_error(result.out[0][20][0], exact.out[0][20][0]), .06) << spec;
    EXPECT_NEAR(result.lse[0][0][20].item<double>() / exact.lse[0][0][20].item<double>(), 1, .01) << spec;
  }
}

TEST(Traps, NegativeScale) {
  Call call = call_of({70, 150});
  call.scale = -call.scale;
  EXPECT_LT(relative_error(twin_of(call, Settings{}).out, exact_of(call).out), .06);
}

at::Tensor sdpa(const Call& call) {
  const auto heads = [](const at::Tensor& x) { return x.transpose(1, 2); };
  return std::get<0>(at::_scaled_dot_product_attention_math(heads(call.q), heads(call.k), heads(call.v), {},
                                                            0, false, {}, call.scale))
      .transpose(1, 2);
}

TEST(Traps, AQueryThatIsNotFiniteHarmsItsOwnRow) {
  for (const char* spec : kSpecs) {
    for (const float bad : {kNan, kInfinity, -kInfinity}) {
      Call call = call_of({150, 150});
      const Settings s = settings_of(spec);
      const at::Tensor before = exact_of(call).out;
      call.q[0][20][1][5] = bad;
      const Quantized x = quantize(call, s);
      const at::Tensor out = attend(x, call, s).out;
      EXPECT_FALSE(at::isfinite(out[0][20][1]).any().item<bool>()) << spec;
      at::Tensor rest = out.clone();
      rest[0][20][1].copy_(before[0][20][1]);
      EXPECT_LT(relative_error(rest, before), bound(s)) << spec;
      Quantized naive = x;
      naive.q_odd = at::zeros_like(x.q_odd);
      EXPECT_TRUE(finite(attend(naive, call, s).out)) << "without the flag it would go unseen";
    }
  }
}

TEST(Traps, KeysAndValuesThatAreNotFiniteDoAsInSdpa) {
  for (const char* spec : kSpecs) {
    const Settings s = settings_of(spec);
    for (const bool key : {true, false}) {
      for (const float bad : {kNan, kInfinity, -kInfinity}) {
        Call call = call_of({70, 150, 64, 4, 2});
        (key ? call.k : call.v)[0][149][1][5] = bad;
        Call whole = call;
        whole.k = call.k.repeat_interleave(2, 2), whole.v = call.v.repeat_interleave(2, 2);
        const at::Tensor expected = sdpa(whole);
        const Quantized x = quantize(call, s);
        const at::Tensor out = attend(x, call, s).out;
        EXPECT_TRUE(at::isfinite(out).equal(at::isfinite(expected))) << spec << key << bad;
        EXPECT_TRUE(out.isnan().equal(expected.isnan())) << spec << key << bad;
        const at::Tensor sound = at::isfinite(expected);
        EXPECT_LT(relative_error(out.masked_select(sound), expected.masked_select(sound)), bound(s));
      }
    }
  }
}

// Under a causal mask a key that is not finite harms the rows that see it, no other.
TEST(Traps, AKeyThatNobodySeesHarmsNobody) {
  Call call = call_of({150, 150, 64, 2, 2, 1, true});
  call.v[0][100].fill_(kInfinity);
  const at::Tensor out = twin_of(call, Settings{}).out;
  EXPECT_TRUE(finite(out.narrow(1, 0, 100)));
  EXPECT_FALSE(at::isfinite(out.narrow(1, 100, 50)).any().item<bool>());
}

TEST(Traps, PackedAndStridedInputs) {
  for (const char* spec : kSpecs) {
    const Call dense = call_of({70, 70});
    const at::Tensor packed = at::stack({dense.q, dense.k, dense.v}, 2);  // [B, S, 3, H, D]
    Call call = dense;
    call.q = packed.select(2, 0), call.k = packed.select(2, 1), call.v = packed.select(2, 2);
    EXPECT_FALSE(call.q.is_contiguous());
    EXPECT_TRUE(twin_of(call, settings_of(spec)).out.equal(twin_of(dense, settings_of(spec)).out)) << spec;
  }
}

}  // namespace
}  // namespace sagelab::attention::sage2::test
