// SPDX-License-Identifier: Apache-2.0
// Rows that no 32-bit offset reaches: each kernel gives what it gives where they are near.
#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <functional>

#include "pipelines/core/linear/linear.h"
#include "pipelines/core/modulate/modulate.h"
#include "pipelines/core/modulate/rms.h"
#include "pipelines/core/modulate/swiglu.h"

namespace sagelab {
namespace {

class FarRows : public ::testing::Test {
 protected:
  static constexpr int64_t kRows = 129, kDim = 256, kPitch = (int64_t{1} << 24) + 8;
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "there is no CUDA device";
    try {
      buffer_ = at::empty({(kRows - 1) * kPitch + 2 * kDim}, options_);
    } catch (const c10::OutOfMemoryError&) {
      GTEST_SKIP() << "4.3 GB of GPU memory are not there";
    }
    ASSERT_GT((kRows - 1) * kPitch, int64_t{1} << 31);
  }
  at::Tensor drawn(int64_t rows, int64_t dim) const { return at::randn({1, rows, dim}, options_); }
  // The values of x, kPitch elements from row to row.
  at::Tensor far(const at::Tensor& x) const {
    const at::Tensor rows = buffer_.as_strided({1, kRows, x.size(2)}, {kRows * kPitch, kPitch, 1});
    return rows.copy_(x);
  }
  // work changes rows in place.
  void expect_same(int64_t dim, const std::function<void(const at::Tensor& rows)>& work) {
    const at::Tensor x = drawn(kRows, dim), near = x.clone(), rows = far(x);
    work(near);
    work(rows);
    EXPECT_FALSE(near.equal(x));
    EXPECT_TRUE(rows.equal(near));
  }

  const at::TensorOptions options_ = at::TensorOptions().device(at::kCUDA, 0).dtype(at::kBFloat16);
  at::Tensor buffer_;
};

TEST_F(FarRows, NormModulate) {
  const at::Tensor x = drawn(kRows, kDim), shift = drawn(1, kDim)[0], scale = drawn(1, kDim)[0];
  const Modulation all{0, kRows, shift, scale};
  LayerNorm norm;
  norm.eps = 1e-6;
  EXPECT_TRUE(norm_modulate(far(x), norm, {&all, 1}).equal(norm_modulate(x, norm, {&all, 1})));
}

TEST_F(FarRows, AddGated) {
  const at::Tensor y = drawn(kRows, kDim);
  const Gate gate{0, kRows, drawn(1, kDim)[0]};
  expect_same(kDim, [&](const at::Tensor& rows) { add_gated_(rows, y, {&gate, 1}); });
  const at::Tensor x = drawn(kRows, kDim), near = x.clone(), by_far = x.clone();
  add_gated_(near, y, {&gate, 1});
  add_gated_(by_far, far(y), {&gate, 1});
  EXPECT_TRUE(by_far.equal(near));
}

TEST_F(FarRows, RmsModulate) {
  const at::Tensor scale = drawn(1, kDim)[0];
  expect_same(kDim, [&](const at::Tensor& rows) { rms_modulate_into(rows, scale, 1e-6, rows); });
}

TEST_F(FarRows, AddRmsGated) {
  const at::Tensor y = drawn(kRows, kDim), gate = drawn(1, kDim)[0];
  expect_same(kDim, [&](const at::Tensor& rows) { add_rms_gated_(rows, y, gate, 1e-6); });
  const at::Tensor x = drawn(kRows, kDim), near = x.clone(), by_far = x.clone();
  add_rms_gated_(near, y, gate, 1e-6);
  add_rms_gated_(by_far, far(y), gate, 1e-6);
  EXPECT_TRUE(by_far.equal(near));
}

TEST_F(FarRows, Swiglu) {
  expect_same(2 * kDim, [](const at::Tensor& rows) {
    const at::Tensor half = swiglu_(rows);
    rows.narrow(2, kDim, kDim).copy_(half);  // what is there otherwise is of no use
  });
}

TEST_F(FarRows, QuantizeRows) {
  const at::Tensor x = drawn(kRows, kDim);
  const QuantizedRows near = quantize_rows(x[0]), rows = quantize_rows(far(x)[0]);
  EXPECT_TRUE(rows.values.view(at::kByte).equal(near.values.view(at::kByte)));
  EXPECT_TRUE(rows.scale.equal(near.scale));
}

}  // namespace
}  // namespace sagelab
