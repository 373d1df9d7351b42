// SPDX-License-Identifier: Apache-2.0
// On a GPU copies run beside the work: here either is made so slow that what does not wait for the other
// shows.
#include <ATen/ATen.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gtest/gtest.h>

#include "pipelines/footprint.h"
#include "tests/pipelines/core/stream/chain.h"

namespace sagelab::testing {
namespace {

class LayerStreamOnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
  }
  static constexpr int64_t kLayers = 7;
  const Target held_{{at::kCUDA, 0}, at::kFloat}, streamed_{{at::kCUDA, 0}, at::kFloat, true};

  // Keeps the current stream busy for some milliseconds.
  static void delay(int times) {
    const at::Tensor a = at::ones({2048, 2048}, at::TensorOptions(at::kCUDA).dtype(at::kFloat));
    for (int i = 0; i < times; ++i) at::mm(a, a);
  }
  static void synchronize(const at::Tensor& x) { x.sum().item<float>(); }

  static void expect_same(const Chain& held, const Chain& streamed, const at::Tensor& x, int delays) {
    const at::Tensor expected = held(x);
    std::vector<at::Tensor> all;
    for (int run = 0; run < 8; ++run)  // none waits for the one before
      all.push_back(streamed(x, [&](int64_t) { delay(delays); }));
    for (size_t run = 0; run < all.size(); ++run) EXPECT_TRUE(at::equal(all[run], expected)) << "run " << run;
  }
};

// Small blocks, slow work: a slot that is filled before its block is finished would show.
TEST_F(LayerStreamOnGpu, ASlotIsNotFilledBeforeItsBlockIsFinished) {
  const at::Tensor x = input_of(held_);
  expect_same(chain_of(kLayers, held_), chain_of(kLayers, streamed_), x, 30);
}

// The work of a block itself is slow, and reads its weights at the end.
TEST_F(LayerStreamOnGpu, WorkBeforeABlockDoesNotLetItsWeightsGo) {
  const at::Tensor x = input_of(held_);
  const Chain held = chain_of(kLayers, held_), streamed = chain_of(kLayers, streamed_);
  const at::Tensor expected = held(x);
  for (int run = 0; run < 4; ++run) {
    delay(100);  // all of the forward is queued before its first block begins
    EXPECT_TRUE(at::equal(streamed(x), expected)) << run;
  }
}

// Large blocks, little work: a block that begins before its weights are there would show.
TEST_F(LayerStreamOnGpu, ABlockDoesNotBeginBeforeItsWeightsAreThere) {
  constexpr int64_t kDim = 512, kWide = 32768;  // 128 MB a block
  const at::Tensor x = input_of(held_, 1, kDim);
  expect_same(chain_of(kLayers, held_, kDim, kWide), chain_of(kLayers, streamed_, kDim, kWide), x, 0);
}

TEST_F(LayerStreamOnGpu, OnAnotherStream) {
  const Chain held = chain_of(kLayers, held_), streamed = chain_of(kLayers, streamed_);
  const at::Tensor x = input_of(held_), expected = held(x);
  synchronize(expected);
  const c10::impl::VirtualGuardImpl guard(at::kCUDA);
  for (int i = 0; i < 3; ++i) {
    const c10::StreamGuard other(guard.getStreamFromGlobalPool({at::kCUDA, 0}));
    delay(20);
    EXPECT_TRUE(at::equal(streamed(x), expected)) << i;
  }
}

// Memory that others have just let go is not written before their work on it is done, nor is ours theirs
// before our work is.
TEST_F(LayerStreamOnGpu, MemoryChangesHandsInOrder) {
  constexpr int64_t kDim = 256, kWide = 4096;
  const at::Tensor x = input_of(held_, 3, kDim);
  const Chain held = chain_of(kLayers, held_, kDim, kWide);
  const at::Tensor expected = held(x);
  for (int run = 0; run < 4; ++run) {
    at::Tensor before = at::full({16 << 20}, 1.0F, x.options());
    delay(50);
    const at::Tensor sum = before.sum();
    before.reset();  // its memory is the allocator's again, and the sum is still to be made
    at::Tensor ours;
    {
      const Chain streamed = chain_of(kLayers, streamed_, kDim, kWide);
      delay(50);
      ours = streamed(x);
    }
    const at::Tensor after = at::full({16 << 20}, 2.0F, x.options());
    EXPECT_TRUE(at::equal(ours, expected)) << run;
    EXPECT_EQ(sum.item<float>(), float(16 << 20)) << run;
    EXPECT_EQ(after.min().item<float>(), 2.0F) << run;
  }
}

TEST_F(LayerStreamOnGpu, TakesTwoBlocksOfTheDevice) {
  constexpr int64_t kDim = 512, kWide = 8192;
  const int64_t before = tensor_bytes({at::kCUDA, 0});
  const Weights w(random_source(7), streamed_);
  const Chain chain(w, kLayers, kDim, kWide);
  w.require_all_read();
  const int64_t taken = tensor_bytes({at::kCUDA, 0}) - before;
  EXPECT_NEAR(double(taken) / double(w.bytes()), 1, 0.01);
  const Weights all(random_source(7), {at::kMeta, at::kFloat});
  const Chain whole(all, kLayers, kDim, kWide);
  EXPECT_LT(3 * taken, all.bytes());
}

}  // namespace
}  // namespace sagelab::testing
