// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/modulate/modulate.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <tuple>

#include "tests/support/parity.h"

namespace sagelab {
namespace {

using sagelab::testing::relative_l2;

struct Case {
  at::Tensor x, y;
  LayerNorm norm;
  at::Tensor six;  // [B, 6D]: its chunks are rows with a stride, as in a model
  std::vector<int64_t> ends;

  at::Tensor chunk(int64_t i) const { return six.chunk(6, 1)[size_t(i)]; }
  std::vector<Modulation> modulations() const {
    std::vector<Modulation> out;
    for (size_t i = 0; i < ends.size(); ++i)
      out.push_back({i ? ends[i - 1] : 0, ends[i], chunk(int64_t(3 * i)), chunk(int64_t(3 * i + 1))});
    return out;
  }
  std::vector<Gate> gates() const {
    std::vector<Gate> out;
    for (size_t i = 0; i < ends.size(); ++i)
      out.push_back({i ? ends[i - 1] : 0, ends[i], chunk(int64_t(3 * i + 2))});
    return out;
  }
};

Case make_case(at::Device device, at::ScalarType dtype, int64_t dim, bool affine, std::vector<int64_t> ends) {
  at::manual_seed(3);
  const auto values = [&](at::IntArrayRef shape) { return at::randn(shape).to(device, dtype); };
  Case c;
  const int64_t rows = ends.back();
  // A variance near the norm's eps, and a mean far from zero.
  c.x = (at::randn({2, rows, dim}) * 0.01 + 0.3).to(device, dtype);
  c.y = values({2, rows, dim});
  c.norm.eps = 1e-5;
  if (affine) c.norm.weight = values({dim}), c.norm.bias = values({dim});
  c.six = values({2, 6 * dim});
  c.ends = std::move(ends);
  return c;
}

at::Tensor norm_reference(const Case& c) {
  const auto wide = [](const at::Tensor& t) { return t.to(at::kCPU, at::kDouble); };
  const at::Tensor x = wide(c.x), centred = x - x.mean(-1, true);
  at::Tensor y = centred * at::rsqrt(centred.square().mean(-1, true) + c.norm.eps);
  if (c.norm.weight.defined()) y = y * wide(c.norm.weight) + wide(c.norm.bias);
  std::vector<at::Tensor> parts;
  for (const Modulation& m : c.modulations())
    parts.push_back(y.slice(1, m.begin, m.end) * (1 + wide(m.scale)).unsqueeze(1) +
                    wide(m.shift).unsqueeze(1));
  return at::cat(parts, 1);
}

at::Tensor gated_reference(const Case& c) {
  std::vector<at::Tensor> parts;
  for (const Gate& g : c.gates())
    parts.push_back(c.x.slice(1, g.begin, g.end).to(at::kCPU, at::kDouble) +
                    g.gate.to(at::kCPU, at::kDouble).unsqueeze(1) *
                        c.y.slice(1, g.begin, g.end).to(at::kCPU, at::kDouble));
  return at::cat(parts, 1);
}

class Modulate : public ::testing::TestWithParam<std::tuple<c10::DeviceType, at::ScalarType, int64_t, bool>> {
 protected:
  void SetUp() override {
    if (std::get<0>(GetParam()) == at::kCUDA && !at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
  }
  Case with(std::vector<int64_t> ends) const {
    const auto& [device, dtype, dim, affine] = GetParam();
    return make_case(device, dtype, dim, affine, std::move(ends));
  }
  // Rounding once or twice in the dtype.
  double bound() const {
    const at::ScalarType dtype = std::get<1>(GetParam());
    return dtype == at::kFloat ? 3e-6 : dtype == at::kHalf ? 1e-3 : 8e-3;
  }
};

TEST_P(Modulate, NormIsTheFormula) {
  for (const auto& ends : {std::vector<int64_t>{5, 12}, {0, 7}, {9}, {1, 1}}) {
    const Case c = with(ends);
    const at::Tensor before = c.x.clone(), out = norm_modulate(c.x, c.norm, c.modulations());
    EXPECT_EQ(out.scalar_type(), c.x.scalar_type());
    EXPECT_TRUE(out.is_contiguous());
    EXPECT_LE(relative_l2(out, norm_reference(c)), bound()) << c.ends;
    EXPECT_TRUE(at::equal(c.x, before));
  }
}

TEST_P(Modulate, NormTakesRowsOfALargerBuffer) {
  Case c = with({4, 10});
  const at::Tensor buffer = at::cat({c.x, c.x}, 1);
  const at::Tensor expected = norm_modulate(c.x, c.norm, c.modulations());
  c.x = buffer.narrow(1, c.ends.back(), c.ends.back());
  EXPECT_TRUE(at::equal(norm_modulate(c.x, c.norm, c.modulations()), expected));
}

TEST_P(Modulate, GatedIsTheFormulaInPlace) {
  for (const auto& ends : {std::vector<int64_t>{5, 12}, {0, 7}, {9}, {1, 1}}) {
    const Case c = with(ends);
    const at::Tensor expected = gated_reference(c);
    const void* memory = c.x.const_data_ptr();
    add_gated_(c.x, c.y, c.gates());
    EXPECT_LE(relative_l2(c.x, expected), bound()) << c.ends;
    EXPECT_EQ(c.x.const_data_ptr(), memory);
  }
}

std::string modulate_case(const ::testing::TestParamInfo<Modulate::ParamType>& info) {
  const auto& [device, dtype, dim, affine] = info.param;
  return std::string(device == at::kCUDA ? "cuda_" : "cpu_") + c10::toString(dtype) + "_" +
         std::to_string(dim) + (affine ? "_affine" : "_plain");
}

// 20 is no multiple of the CUDA kernels' vectors: the other path.
INSTANTIATE_TEST_SUITE_P(All, Modulate,
                         ::testing::Combine(::testing::Values(at::kCPU, at::kCUDA),
                                            ::testing::Values(at::kFloat, at::kHalf, at::kBFloat16),
                                            ::testing::Values(20, 64, 1920, 3072), ::testing::Bool()),
                         modulate_case);

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const c10::Error& e) {
    return e.what_without_backtrace();
  }
  return "accepted";
}

TEST(ModulateChecks, NameTheShapes) {
  const Case c = make_case(at::kCPU, at::kFloat, 64, true, {5, 12});
  const auto message = [&](std::vector<Modulation> spans) {
    return message_of([&] { norm_modulate(c.x, c.norm, spans); });
  };
  const auto good = c.modulations();
  EXPECT_EQ(message(good), "accepted");
  EXPECT_THAT(message({good[0]}), ::testing::HasSubstr("spans end at row 5 of 12"));
  EXPECT_THAT(message({good[1]}), ::testing::HasSubstr("span [5, 12) of 12 rows should begin at 0"));
  EXPECT_THAT(message({{0, 13, good[0].shift, good[0].scale}}),
              ::testing::HasSubstr("span [0, 13) of 12 rows should begin at 0"));
  EXPECT_THAT(message({{0, 12, good[0].shift, good[0].scale.narrow(1, 0, 8)}}),
              ::testing::HasSubstr("a factor of shape [2, 8] does not fit rows of [2, 12, 64]"));
  EXPECT_THAT(message_of([&] { add_gated_(c.x, c.y.narrow(1, 0, 3), c.gates()); }),
              ::testing::HasSubstr("a residual of shape [2, 3, 64] does not fit [2, 12, 64]"));
  EXPECT_THAT(message_of([&] { add_gated_(c.x, c.y, std::array{c.gates()[0]}); }),
              ::testing::HasSubstr("spans end at row 5 of 12"));
}

}  // namespace
}  // namespace sagelab
