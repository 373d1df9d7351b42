// SPDX-License-Identifier: Apache-2.0
// Where operands lie: tables off the 16 bytes that a load takes, rows further apart than 32 bits count.
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "attention/joint.h"
#include "attention/recorder.h"
#include "attention/registry.h"
#include "tests/attention/exact.h"

#ifdef SAGELAB_CUDA
#include "attention/fused/rows.h"
#endif

namespace sagelab::attention::test {
namespace {

// The same values 4 bytes behind a multiple of 16.
at::Tensor shifted(const at::Tensor& x) {
  return at::empty({x.numel() + 1}, x.options()).narrow(0, 1, x.numel()).view(x.sizes()).copy_(x);
}

#ifdef SAGELAB_CUDA
TEST(Floats, LieOnSixteenBytes) {
  const at::Tensor table = normal({5, 32}, 1, at::kFloat, at::kCPU), off = shifted(table);
  ASSERT_NE(reinterpret_cast<uintptr_t>(off.const_data_ptr()) % 16, 0u);
  Floats floats;
  const float* aligned = floats(off, at::kCPU);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(aligned) % 16, 0u);
  EXPECT_TRUE(std::equal(aligned, aligned + table.numel(), table.const_data_ptr<float>()));
  EXPECT_EQ(floats(table, at::kCPU), table.const_data_ptr<float>()) << "copied without need";
}
#endif

TEST(Memory, TablesAnywhere) {
  for (const at::Device& device : devices()) {
    JointShape shape;
    shape.device = device;
    JointCase joint(shape);
    for (Segment& s : joint.segments) {
      for (at::Tensor* t : {&s.rope.cos, &s.rope.sin, &s.q_norm.weight, &s.k_norm.bias}) *t = shifted(*t);
    }
    const ExactGathered exact = exact_gather(joint.call());
    const Gathered g = gather(joint.call());
    EXPECT_LT(relative_error(g.q, exact.q), 3e-7);
    EXPECT_LT(relative_error(g.k, exact.k), 3e-7);
    EXPECT_EQ(g.fused, device.is_cuda());
  }
}

// q, k and v [1, 129, 2, 64] in bf16 as views of one buffer, whose rows are 2^24 + 8 elements apart.
class FarRows : public testing::Test {
 protected:
  static constexpr int64_t kRows = 129, kPitch = (int64_t{1} << 24) + 8, kHeads = 2, kDim = 64;
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "there is no CUDA device";
    const auto options = at::TensorOptions().device(at::kCUDA, 0).dtype(at::kBFloat16);
    try {
      buffer_ = at::empty({(kRows - 1) * kPitch + 3 * kHeads * kDim}, options);
    } catch (const c10::OutOfMemoryError&) {
      GTEST_SKIP() << "4.3 GB of GPU memory are not there";
    }
    for (const uint64_t part : {0, 1, 2}) {
      near_[part] = normal({1, kRows, kHeads, kDim}, 5 + part, at::kBFloat16, buffer_.device());
      far_[part] = buffer_.as_strided({1, kRows, kHeads, kDim}, {kRows * kPitch, kPitch, kDim, 1},
                                      static_cast<int64_t>(part) * kHeads * kDim);
      far_[part].copy_(near_[part]);
    }
    ASSERT_GT((kRows - 1) * kPitch, int64_t{1} << 31);
  }
  at::Tensor buffer_;
  std::array<at::Tensor, 3> near_, far_;
};

TEST_F(FarRows, Gather) {
  const auto gathered = [](const std::array<at::Tensor, 3>& x) {
    Segment s{x[0],
              x[1],
              x[2],
              {Norm::Kind::Rms, {}, {}, 1e-6},
              {Norm::Kind::Layer, {}, {}, 1e-6},
              {},
              at::empty_like(x[0], at::MemoryFormat::Contiguous)};
    const std::vector<Segment> segments{s, s};  // two, so that v is copied too
    return gather({segments, 1, {}});
  };
  const Gathered expected = gathered(near_), actual = gathered(far_);
  EXPECT_TRUE(actual.fused);
  EXPECT_TRUE(actual.q.equal(expected.q));
  EXPECT_TRUE(actual.k.equal(expected.k));
  EXPECT_TRUE(actual.v.equal(expected.v));
}

TEST_F(FarRows, EveryBackend) {
  for (const Entry& entry : backends()) {
    SCOPED_TRACE(entry.spec);
    const BackendPtr backend = make_backend(entry.spec);
    const Call near{near_[0], near_[1], near_[2], 0.125, false, false, {}, false, {}};
    const Call far{far_[0], far_[1], far_[2], 0.125, false, false, {}, false, {}};
    if (!backend->unsupported(problem_of(near)).empty()) continue;
    Recorder recorder;
    EXPECT_EQ(relative_error(backend->run(far, recorder).out, backend->run(near, recorder).out), 0);
  }
}

// Into rows that lie as far apart.
TEST_F(FarRows, Destination) {
  for (const Entry& entry : backends()) {
    SCOPED_TRACE(entry.spec);
    const BackendPtr backend = make_backend(entry.spec);
    const std::vector<Segment> far{{near_[0], near_[1], near_[2], {}, {}, {}, far_[0]}};
    const JointCall call{far, 0.125, {}};
    if (!backend->unsupported(problem_of(call)).empty()) continue;
    Recorder recorder;
    const c10::InferenceMode inference;
    backend->run_joint(call, recorder);
    const Call near{near_[0], near_[1], near_[2], 0.125, false, false, {}, false, {}};
    EXPECT_EQ(relative_error(far_[0], backend->run(near, recorder).out), 0);
  }
}

}  // namespace
}  // namespace sagelab::attention::test
