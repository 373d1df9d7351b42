// SPDX-License-Identifier: Apache-2.0
// Streams other than the default: work waits for inputs that are made on its own stream, and two streams at
// once do not disturb each other.
#include <ATen/cuda/Sleep.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <array>
#include <thread>

#include "attention/joint.h"
#include "attention/recorder.h"
#include "tests/attention/sage2/gpu/device.h"

namespace sagelab::attention::sage2::test {
namespace {

constexpr int64_t kLate = 100000000;  // cycles: some 50 ms

Call call_with_lse(const Shape& shape, uint64_t seed) {
  Call call = on_cuda(call_of(shape, seed));
  call.want_lse = true;
  return call;
}

class Streams : public OfSpec {
 protected:
  // A call whose values arrive late on the current stream; until then it holds others.
  static Call late(const Call& values, const Call& before) {
    Call call = before;
    for (at::Tensor* x : {&call.q, &call.k, &call.v}) *x = x->clone();
    c10::cuda::device_synchronize();
    at::cuda::sleep(kLate);
    call.q.copy_(values.q), call.k.copy_(values.k), call.v.copy_(values.v);
    return call;
  }
};

TEST_P(Streams, WorkFollowsWhatCameBefore) {
  const Shape shape{300, 300, 128, 4, 2};
  const Call values = call_with_lse(shape, 1), before = call_with_lse(shape, 2);
  const Output expected = run(values);
  const c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool();
  Output on_stream, elsewhere;
  {
    const c10::cuda::CUDAStreamGuard guard(stream);
    on_stream = run(late(values, before));
  }
  c10::cuda::device_synchronize();
  EXPECT_TRUE(same_bits(on_stream.out, expected.out));
  EXPECT_TRUE(same_bits(on_stream.lse, expected.lse));
  // The same on the default stream, as a kernel launched without a stream would be: too early.
  Call call;
  {
    const c10::cuda::CUDAStreamGuard guard(stream);
    call = late(values, before);
  }
  elsewhere = run(call);
  c10::cuda::device_synchronize();
  EXPECT_FALSE(same_bits(elsewhere.out, expected.out)) << "this test would not see a wrong stream";
}

TEST_P(Streams, JointCallsFollowToo) {
  const Shape shape{200, 200, 64, 2, 2};
  const Call values = call_with_lse(shape, 3), before = call_with_lse(shape, 4);
  const at::Tensor weight = on_cuda(call_of({1, 1})).q.flatten().narrow(0, 0, 64);
  const auto joint = [&](const Call& call) {
    const Norm norm{Norm::Kind::Rms, weight, {}, 1e-6};
    const at::Tensor out = at::zeros_like(call.q);
    const std::vector<Segment> segments{{call.q, call.k, call.v, norm, norm, {}, out}};
    Recorder recorder;
    make_backend(spec())->run_joint({segments, call.scale, {}}, recorder);
    return out;
  };
  const at::Tensor expected = joint(values);
  at::Tensor on_stream;
  {
    const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool());
    on_stream = joint(late(values, before));
  }
  c10::cuda::device_synchronize();
  EXPECT_TRUE(same_bits(on_stream, expected));
}

// Each from its own thread; neither fills the GPU, and both begin with a queue that is full.
TEST_P(Streams, TwoAtOnce) {
  constexpr int kTimes = 50;
  const std::array<Call, 2> calls{call_with_lse({700, 700, 128, 4, 2}, 5),
                                  call_with_lse({650, 900, 64, 4, 4, 1, true}, 6)};
  std::array<Output, 2> expected;
  std::array<std::vector<Output>, 2> results;
  for (size_t i : {0, 1}) expected[i] = run(calls[i]);
  c10::cuda::device_synchronize();
  std::vector<std::thread> threads;
  for (size_t i : {0, 1}) {
    threads.emplace_back([&, i] {
      const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool(false, 0));
      at::cuda::sleep(kLate / 4);
      for (int n = 0; n < kTimes; ++n) results[i].push_back(run(calls[i]));
    });
  }
  for (std::thread& thread : threads) thread.join();
  c10::cuda::device_synchronize();
  for (size_t i : {0, 1}) {
    ASSERT_EQ(results[i].size(), size_t(kTimes));
    for (int n = 0; n < kTimes; ++n) {
      const Output& result = results[i][size_t(n)];
      ASSERT_TRUE(same_bits(result.out, expected[i].out)) << "call " << i << " run " << n;
      ASSERT_TRUE(same_bits(result.lse, expected[i].lse)) << "call " << i << " run " << n;
    }
  }
  EXPECT_FALSE(same_bits(expected[0].out, expected[1].out));
}

INSTANTIATE_TEST_SUITE_P(Gpu, Streams, testing::ValuesIn(variants()), name_of_spec);

}  // namespace
}  // namespace sagelab::attention::sage2::test
