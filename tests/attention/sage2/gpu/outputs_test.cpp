// SPDX-License-Identifier: Apache-2.0
// Results of the kernels: no further from the truth than the twin's on the same tensors, and the same bits
// every time.
#include "tests/attention/sage2/gpu/device.h"

namespace sagelab::attention::sage2::test {
namespace {

const Shape kShapes[] = {
    {1, 1, 64},
    {1, 287, 128, 4, 2},
    {287, 287, 64, 4, 4, 2},
    {287, 287, 128, 6, 2, 1, true},
    {62, 125, 40, 2, 2, 1, true},
    {125, 62, 64, 2, 2, 1, true},
    {600, 600, 128},
    {129, 600, 96, 4, 1},
    {1000, 1000, 128, 30, 10, 1, true},  // more items than multiprocessors
    {1000, 1000, 64, 40, 40},
};

class Outputs : public OfSpec {};

TEST_P(Outputs, AreAsGoodAsTheTwins) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    for (const Shape& shape : kShapes) {
      SCOPED_TRACE(testing::Message() << dtype << " q " << shape.q_len << " kv " << shape.kv_len << " D "
                                      << shape.head_dim << " causal " << shape.causal);
      Call call = on_cuda(call_of(shape), dtype);
      call.want_lse = true;
      expect_as_good_as_the_twin(call, bound());
    }
  }
}

// Where the parts of the algorithm earn their keep: offsets in K, values with a bias, outliers, large scores.
TEST_P(Outputs, AreAsGoodAsTheTwinsOfOtherDistributions) {
  const auto channels = [](uint64_t seed, double size) {
    return normal({1, 1, 2, 128}, seed, at::kFloat, at::kCPU, size);
  };
  const Call plain = call_of({287, 500, 128, 4, 2});
  Call offset = plain, biased = plain, outliers = plain, large = plain;
  offset.k = plain.k + channels(9, 8);
  biased.v = plain.v + channels(10, 4);
  outliers.k = plain.k * (1 + 20 * channels(11, 1).gt(1.8).to(at::kFloat));
  large.q = plain.q * 4;
  for (const Call& call : {offset, biased, outliers, large}) {
    Call moved = on_cuda(call);
    moved.want_lse = true;
    // Without what helps against them they are far off, in the twin too.
    expect_as_good_as_the_twin(moved, 3);
  }
}

INSTANTIATE_TEST_SUITE_P(Gpu, Outputs, testing::ValuesIn(variants()), name_of_spec);

class Repeated : public OfSpec {};

TEST_P(Repeated, CallsGiveTheSameBits) {
  // More items than multiprocessors, or pairs of them, and of heads than are under way at once if causal.
  for (const auto& [kv_len, dim, causal] :
       {std::tuple{2000, 128, false}, {6200, 128, true}, {2000, 64, false}}) {
    Call call = on_cuda(call_of({2000, kv_len, dim, 24, 24, 1, causal}));
    call.want_lse = true;
    fill_free_memory(0);
    const Output first = run(call);
    EXPECT_TRUE(all_finite(first.out));
    for (int i = 1; i < 100; ++i) {
      if (i == 50) fill_free_memory(0xff);
      const Output again = run(call);
      ASSERT_TRUE(same_bits(again.out, first.out))
          << "out of run " << i << ", keys " << kv_len << ", dim " << dim;
      ASSERT_TRUE(same_bits(again.lse, first.lse))
          << "lse of run " << i << ", keys " << kv_len << ", dim " << dim;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Gpu, Repeated, testing::ValuesIn(entries()), name_of_spec);

}  // namespace
}  // namespace sagelab::attention::sage2::test
