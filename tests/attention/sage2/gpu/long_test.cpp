// SPDX-License-Identifier: Apache-2.0
// Sequences that no 32-bit offset reaches the end of, and more keys than anyone has frames for.
#include <c10/util/Exception.h>

#include "attention/sage2/launch.h"
#include "tests/attention/sage2/gpu/device.h"

namespace sagelab::attention::sage2::test {
namespace {

constexpr int64_t kMany = 180000, kPast = int64_t{1} << 31;

class Long : public OfSpec {};

// Seeded on the device: millions of values are slow to draw on the CPU.
at::Tensor drawn(at::IntArrayRef sizes, uint64_t seed) {
  at::Generator generator = at::globalContext().defaultGenerator(cuda()).clone();
  generator.set_current_seed(seed);
  return at::empty(sizes, at::TensorOptions().device(cuda()).dtype(at::kBFloat16)).normal_(0, 1, generator);
}

Call drawn_call(int64_t q_len, int64_t kv_len, int64_t dim, bool causal) {
  Call call;
  call.q = drawn({1, q_len, 1, dim}, 1), call.k = drawn({1, kv_len, 1, dim}, 2);
  call.v = drawn({1, kv_len, 1, dim}, 3);
  call.scale = 1 / std::sqrt(double(dim)), call.causal = causal, call.want_lse = true;
  return call;
}

void expect_close(const Output& result, const Output& truth, double bound, bool int4) {
  EXPECT_LT(relative_error(result.out, truth.out), bound);
  EXPECT_TRUE(at::isfinite(result.lse).equal(at::isfinite(truth.lse)));
  const at::Tensor off = (result.lse - truth.lse).nan_to_num(0).abs();
  EXPECT_LT(off.max().item<double>(), int4 ? 1.2 : .065);
}

TEST_P(Long, KeysOfFewQueries) {
  for (const int64_t kv_len : {int64_t{170000}, int64_t{1000000}}) {
    for (const bool causal : {false, true}) {
      SCOPED_TRACE(testing::Message() << kv_len << " causal " << causal);
      const Call call = drawn_call(3, kv_len, 64, causal);
      fill_free_memory(0xff);
      // Where a million values of no bias leave next to nothing, what rounding V by one scale adds to each of
      // them alike can be seen: 1e-4.
      const double limit = bound() * (kv_len == 170000 ? 1.3 : 2.5);
      expect_close(run(call), truth_of(call), limit, settings().qk == Qk::Int4);
    }
  }
}

TEST_P(Long, IsAsGoodAsTheTwin) {
  expect_as_good_as_the_twin(drawn_call(3, 170000, 64, false), 1.3 * bound());
}

TEST_P(Long, QueriesOfFewKeys) {
  const Call call = drawn_call(170000, 3, 64, false);
  const Output result = run(call), truth = truth_of(call);
  expect_close(result, truth, bound(), settings().qk == Qk::Int4);
  EXPECT_LT(relative_error(result.out.narrow(1, 169999, 1), truth.out.narrow(1, 169999, 1)), 3 * bound());
}

// q, k and v of a packed projection whose last rows lie past 2^31 elements, of a batch whose quantized tiles
// lie past 2^31 bytes.
class Far : public OfSpec {
 protected:
  static constexpr int64_t kHeads = 32, kDim = 128, kBatch = 3, kQueries = 130;
  void SetUp() override {
    OfSpec::SetUp();
    if (IsSkipped()) return;
    try {
      qkv_ = drawn({1, kMany, 3, kHeads, kDim}, 5);
    } catch (const c10::OutOfMemoryError&) {
      GTEST_SKIP() << "4.4 GB of GPU memory are not there";
    }
    ASSERT_GT(qkv_.numel(), kPast);
    ASSERT_GT(kBatch * kMany * kHeads * kDim, kPast);
  }
  void TearDown() override {
    qkv_.reset();
    if (at::hasCUDA()) fill_free_memory(0);  // gives gigabytes back
  }
  // A batch of one sample thrice.
  Call call() const {
    const auto part = [&](int64_t which, int64_t first) {
      const at::Tensor all = qkv_.select(2, which).narrow(1, first, kMany - first);
      return all.expand({kBatch, all.size(1), kHeads, kDim});
    };
    Call call;
    call.q = part(0, kMany - kQueries), call.k = part(1, 0), call.v = part(2, 0);
    call.scale = 1 / std::sqrt(double(kDim)), call.want_lse = true;
    return call;
  }
  // fp64 of queries [first, first + count) of one head of one sample.
  static Output truth_at(const Call& call, int64_t head, int64_t first, int64_t count) {
    Call one = call;
    for (at::Tensor* x : {&one.q, &one.k, &one.v}) *x = x->narrow(0, 0, 1).narrow(2, head, 1);
    one.q = one.q.narrow(1, first, count);
    return truth_of(one);
  }
  void expect_head(const Output& result, const Call& call, int64_t batch, int64_t head) const {
    SCOPED_TRACE(testing::Message() << "sample " << batch << " head " << head);
    const int64_t last = call.q.size(1) - 4;
    for (const int64_t first : {int64_t{0}, last}) {
      const Output truth = truth_at(call, head, first, 4);
      const Output part{result.out.narrow(0, batch, 1).narrow(1, first, 4).narrow(2, head, 1),
                        result.lse.narrow(0, batch, 1).narrow(1, head, 1).narrow(2, first, 4)};
      expect_close(part, truth, 1.5 * bound(), settings().qk == Qk::Int4);
    }
  }
  at::Tensor qkv_;
};

TEST_P(Far, KeysAndTiles) {
  const Call call = this->call();
  const Output result = run(call);
  expect_head(result, call, 0, 0);
  expect_head(result, call, kBatch - 1, kHeads - 1);
  const at::Tensor first = result.out.narrow(0, 0, 1);
  for (int64_t b = 1; b < kBatch; ++b) EXPECT_TRUE(same_bits(result.out.narrow(0, b, 1), first)) << b;
  // With offsets of 32 bits the last key is somewhere before the first.
  EXPECT_LT(int32_t(uint32_t(call.k.stride(1) * (kMany - 1))), 0);
}

TEST_P(Far, Destination) {
  Call call = this->call();
  for (at::Tensor* x : {&call.q, &call.k, &call.v}) *x = x->narrow(0, 0, 1);
  call.k = call.k.narrow(1, 0, 300), call.v = call.v.narrow(1, 0, 300);
  call.q = qkv_.select(2, 0);
  const at::Tensor buffer = at::zeros_like(qkv_);
  call.out = buffer.select(2, 2);
  const Output result = run(call);
  EXPECT_TRUE(result.out.is_alias_of(buffer));
  expect_head(result, call, 0, 0);
  expect_head(result, call, 0, kHeads - 1);
  EXPECT_TRUE(buffer.narrow(2, 0, 2).eq(0).all().item<bool>()) << "wrote beside its rows";
}

INSTANTIATE_TEST_SUITE_P(Gpu, Long, testing::ValuesIn(variants()), name_of_spec);
INSTANTIATE_TEST_SUITE_P(Gpu, Far, testing::ValuesIn(entries()), name_of_spec);

}  // namespace
}  // namespace sagelab::attention::sage2::test
