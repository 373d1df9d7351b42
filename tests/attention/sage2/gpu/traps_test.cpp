// SPDX-License-Identifier: Apache-2.0
// The traps of ../traps_test.cpp, on the GPU and through the backend: values that break naive kernels, and
// memory that holds garbage. What a naive kernel would give is shown where that is cheap.
#include <limits>

#include "attention/sage2/launch.h"
#include "tests/attention/sage2/gpu/device.h"

namespace sagelab::attention::sage2::test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class TrapsOnGpu : public OfSpec {};

// What the tests below count on: what is not written is NaN, in small tensors and in large ones.
TEST_F(OnGpu, FreeMemoryHoldsNan) {
  for (const int64_t count : {100, 100000, 4000000}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      fill_free_memory(0xff);
      const at::Tensor unwritten = at::empty({count}, at::TensorOptions().device(cuda()).dtype(dtype));
      EXPECT_TRUE(unwritten.isnan().all().item<bool>()) << count << " " << dtype;
    }
  }
}

TEST_P(TrapsOnGpu, TailsHoldNoGarbage) {
  const int64_t dims[] = {64, 96, 128};
  for (const int64_t length : {1, 9, 63, 65, 127, 129, 200}) {
    Call call = on_cuda(call_of({length, length, dims[length % 3], 4, 2}));
    SCOPED_TRACE(testing::Message() << call.q.sizes());
    call.want_lse = true;
    fill_free_memory(0);
    const Output clean = run(call);
    fill_free_memory(0xff);
    const Output result = run(call);
    EXPECT_TRUE(all_finite(result.out) && all_finite(result.lse));
    EXPECT_TRUE(same_bits(result.out, clean.out) && same_bits(result.lse, clean.lse));
    EXPECT_LT(relative_error(result.out, truth_of(call).out), bound());
  }
}

TEST_P(TrapsOnGpu, AZeroChannelOfV) {
  Call call = on_cuda(call_of({70, 70}));
  call.v.select(3, 17).zero_();
  const at::Tensor out = run(call).out;
  EXPECT_TRUE(out.select(3, 17).eq(0).all().item<bool>());
  EXPECT_LT(relative_error(out, truth_of(call).out), bound());
  EXPECT_FALSE(all_finite(call.v * (448 / call.v.abs().amax(1, true)))) << "the naive reciprocal";
}

TEST_P(TrapsOnGpu, DenormalsAndNegativeZero) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    for (const double value : {dtype == at::kHalf ? 6e-8 : 1e-40, -0., dtype == at::kHalf ? 1e-5 : 1e-36}) {
      Call call = on_cuda(call_of({70, 70}), dtype);
      for (at::Tensor* x : {&call.q, &call.k, &call.v}) x->select(2, 0).fill_(value);
      const at::Tensor out = run(call).out;
      EXPECT_TRUE(all_finite(out)) << value;
      EXPECT_LE(out.select(2, 0).abs().max().item<double>(), 1.1 * value + 1e-35) << value;
      EXPECT_LT(relative_error(out.select(2, 1), truth_of(call).out.select(2, 1)), bound());
    }
  }
}

TEST_P(TrapsOnGpu, EqualRows) {
  Call call = on_cuda(call_of({150, 150}));
  for (at::Tensor* x : {&call.q, &call.k, &call.v}) *x = x->narrow(1, 0, 1).expand_as(*x).clone();
  call.want_lse = true;
  const Output result = run(call), truth = truth_of(call);
  EXPECT_LT(relative_error(result.out, truth.out), 1e-3);
  const bool smooth = settings().smooth_k != Mean::Off;
  EXPECT_LT((result.lse - truth.lse).abs().max().item<double>(), smooth ? 1e-4 : .1);
}

TEST_P(TrapsOnGpu, OneToken) {
  for (const auto& [q_len, kv_len] : {std::pair{1, 1}, {1, 300}, {300, 1}}) {
    SCOPED_TRACE(testing::Message() << q_len << " " << kv_len);
    Call call = on_cuda(call_of({q_len, kv_len, 64, 4, 2}));
    fill_free_memory(0xff);
    EXPECT_LT(relative_error(run(call).out, truth_of(call).out), kv_len == 1 ? 1e-3 : bound());
    call.causal = q_len <= kv_len;
    EXPECT_LT(relative_error(run(call).out, truth_of(call).out), kv_len == 1 ? 1e-3 : bound());
  }
}

TEST_P(TrapsOnGpu, NoTokens) {
  for (const auto& [q_len, kv_len, batch] : {std::tuple{0, 9, 1}, {9, 0, 1}, {0, 0, 1}, {9, 9, 0}}) {
    Call call = on_cuda(call_of({q_len, kv_len, 64, 2, 2, batch}));
    call.want_lse = true;
    fill_free_memory(0xff);
    const Output result = run(call);
    EXPECT_EQ(result.out.sizes(), call.q.sizes());
    EXPECT_TRUE(result.out.eq(0).all().item<bool>());
    EXPECT_EQ(result.lse.sizes(), at::IntArrayRef({batch, 2, q_len}));
    EXPECT_TRUE(result.lse.eq(-kInfinity).all().item<bool>());
  }
}

// Queries before the first key see none.
TEST_P(TrapsOnGpu, RowsWithoutKeys) {
  Call call = on_cuda(call_of({300, 100, 64, 2, 2, 1, true}));
  call.want_lse = true;
  fill_free_memory(0xff);
  const Output result = run(call);
  EXPECT_TRUE(result.out.narrow(1, 0, 200).eq(0).all().item<bool>());
  EXPECT_TRUE(result.lse.narrow(2, 0, 200).eq(-kInfinity).all().item<bool>());
  EXPECT_LT(relative_error(result.out, truth_of(call).out), bound());
}

TEST_P(TrapsOnGpu, HugeOffsetsOfK) {
  Call call = call_of({150, 300, 128});
  call.k = call.k + normal({1, 1, 2, 128}, 9, at::kFloat, at::kCPU, 100);
  call = on_cuda(call, at::kHalf);
  call.want_lse = true;
  if (settings().smooth_k == Mean::Off) {
    EXPECT_GT(relative_error(run(call).out, truth_of(call).out), .5) << "without smoothing";
    return;
  }
  // Rounding to fp16 spreads such keys, and the scores with them.
  expect_as_good_as_the_twin(call, bound() * 1.2);
}

TEST_P(TrapsOnGpu, OneHugeOutlier) {
  Call call = on_cuda(call_of({150, 300}));
  call.k[0][40][0][3] = 3e4;
  const Output result = run(call);
  EXPECT_TRUE(all_finite(result.out));
  // It costs the resolution of its group alone: a quarter of a tile of keys. One scale per tensor or per head
  // would round every other key to zero.
  EXPECT_LT(relative_error(result.out.select(2, 1), truth_of(call).out.select(2, 1)), bound());
  EXPECT_EQ(quantize_on_cuda(call, settings()).k_scale.gt(100).sum().item<int64_t>(), 1);
  expect_as_good_as_the_twin(call, 2);
}

// Scores of millions: a unit of their integers is worth powers of two, and one key takes all.
TEST_P(TrapsOnGpu, OutliersThatMeet) {
  Call call = on_cuda(call_of({150, 300}));
  call.q[0][20][0][3] = call.k[0][40][0][3] = 1e4;
  call.want_lse = true;
  const Output result = run(call), truth = truth_of(call);
  EXPECT_TRUE(all_finite(result.lse));
  // The one P that counts is not 448 here, so rounding changes it, by a 16th at most, and not an fp32 sum.
  const double more = settings().sum == Sum::Fp32 ? 1. / 16 : 0;
  EXPECT_LT(relative_error(result.out[0][20][0], truth.out[0][20][0]), bound() + more);
  EXPECT_NEAR(result.lse[0][0][20].item<double>() / truth.lse[0][0][20].item<double>(), 1, .01);
}

TEST_P(TrapsOnGpu, NegativeScale) {
  Call call = on_cuda(call_of({70, 150}));
  call.scale = -call.scale;
  EXPECT_LT(relative_error(run(call).out, truth_of(call).out), bound());
}

TEST_P(TrapsOnGpu, TheLseKnowsOfSmoothing) {
  Call call = call_of({70, 150});
  call.k = call.k + 5;
  call = on_cuda(call);
  call.want_lse = true;
  const Output result = run(call), truth = truth_of(call);
  const auto error = [&](const at::Tensor& lse) { return (lse - truth.lse).abs().max().item<double>(); };
  const double limit = settings().qk == Qk::Int4 ? 1.2 : .065;
  if (settings().smooth_k == Mean::Off) {
    EXPECT_LT(error(result.lse), 6 * limit) << "coarser, with nothing taken away";
    return;
  }
  EXPECT_LT(error(result.lse), limit);
  const at::Tensor shift = quantize_on_cuda(call, settings()).q_shift;
  EXPECT_GT(error(result.lse - shift * call.scale), 3) << "without what smoothing took away";
}

TEST_P(TrapsOnGpu, PackedAndStridedInputs) {
  for (const int64_t head_dim : {64, 128, 40}) {
    const Call dense = on_cuda(call_of({130, 130, head_dim, 4, 4, 2}));
    const at::Tensor expected = run(dense).out;
    const at::Tensor packed = at::stack({dense.q, dense.k, dense.v}, 2);  // [B, S, 3, H, D]
    Call call = dense;
    call.q = packed.select(2, 0), call.k = packed.select(2, 1), call.v = packed.select(2, 2);
    EXPECT_FALSE(call.q.is_contiguous());
    EXPECT_TRUE(same_bits(run(call).out, expected)) << "packed " << head_dim;
    // The same memory read as if it were dense.
    Call naive = dense;
    naive.q = call.q.as_strided(dense.q.sizes(), dense.q.strides());
    EXPECT_FALSE(same_bits(run(naive).out, expected));
    for (at::Tensor* x : {&call.q, &call.k, &call.v}) {
      *x = x->transpose(1, 2).contiguous().transpose(1, 2);  // heads first
    }
    EXPECT_TRUE(same_bits(run(call).out, expected)) << "heads first " << head_dim;
    for (at::Tensor* x : {&call.q, &call.k, &call.v}) {
      const at::Tensor wide = at::empty({2, 130, 4 * head_dim + 3}, x->options());
      *x = wide.narrow(2, 1, 4 * head_dim).unflatten(2, {4, head_dim}).copy_(*x);
    }
    EXPECT_TRUE(same_bits(run(call).out, expected)) << "odd rows " << head_dim;
  }
}

TEST_P(TrapsOnGpu, AQueryThatIsNotFiniteHarmsItsOwnRow) {
  for (const float bad : {kNan, kInfinity, -kInfinity}) {
    Call call = on_cuda(call_of({150, 150}));
    const Output before = truth_of(call);
    call.q[0][20][1][5] = bad;
    call.want_lse = true;
    Output result = run(call);
    EXPECT_FALSE(at::isfinite(result.out[0][20][1]).any().item<bool>()) << bad;
    EXPECT_FALSE(std::isfinite(result.lse[0][1][20].item<double>())) << bad;
    result.out[0][20][1].copy_(before.out[0][20][1]);
    result.lse[0][1][20].copy_(before.lse[0][1][20]);
    EXPECT_LT(relative_error(result.out, before.out), bound()) << bad;
    EXPECT_TRUE(all_finite(result.lse)) << bad;
    // The tiles hold no trace of it: without the flag it would go unseen.
    const Quantized x = quantize_on_cuda(call, settings());
    EXPECT_TRUE(all_finite(x.q_scale));
    EXPECT_EQ(x.q_odd.sum().item<int64_t>(), 1);
  }
}

// q, k, v in fp32, heads of k and v repeated for their group.
at::Tensor sdpa(const Call& call) {
  const int64_t group = call.q.size(2) / call.k.size(2);
  const auto heads = [](const at::Tensor& x, int64_t times) {
    return x.to(at::kFloat).repeat_interleave(times, 2).transpose(1, 2);
  };
  return std::get<0>(at::_scaled_dot_product_attention_math(heads(call.q, 1), heads(call.k, group),
                                                            heads(call.v, group), {}, 0, false, {},
                                                            call.scale))
      .transpose(1, 2);
}

TEST_P(TrapsOnGpu, KeysAndValuesThatAreNotFiniteDoAsInSdpa) {
  for (const bool key : {true, false}) {
    for (const float bad : {kNan, kInfinity, -kInfinity}) {
      SCOPED_TRACE(testing::Message() << (key ? "key " : "value ") << bad);
      Call call = on_cuda(call_of({70, 150, 64, 4, 2}));
      (key ? call.k : call.v)[0][149][1][5] = bad;
      const at::Tensor expected = sdpa(call), out = run(call).out;
      EXPECT_TRUE(at::isfinite(out).equal(at::isfinite(expected)));
      EXPECT_TRUE(out.isnan().equal(expected.isnan()));
      const at::Tensor sound = at::isfinite(expected);
      EXPECT_LT(relative_error(out.masked_select(sound), expected.masked_select(sound)), bound());
    }
  }
}

// Under a causal mask a value that is not finite harms the rows that see it, no other.
TEST_P(TrapsOnGpu, AKeyThatNobodySeesHarmsNobody) {
  Call call = on_cuda(call_of({150, 150, 64, 2, 2, 1, true}));
  const at::Tensor before = truth_of(call).out;
  call.v[0][100].fill_(kInfinity);
  const at::Tensor out = run(call).out;
  EXPECT_LT(relative_error(out.narrow(1, 0, 100), before.narrow(1, 0, 100)), bound());
  EXPECT_FALSE(at::isfinite(out.narrow(1, 100, 50)).any().item<bool>());
}

INSTANTIATE_TEST_SUITE_P(Gpu, TrapsOnGpu, testing::ValuesIn(variants()), name_of_spec);

}  // namespace
}  // namespace sagelab::attention::sage2::test
