// SPDX-License-Identifier: Apache-2.0
// The prologue's tensors, bit for bit those of the twin from the same values. Only sums may differ, by the
// order of their terms: means, products with them, and what a mean of queries leaves of the queries; so the
// twin is handed the means that the GPU found.
#include <algorithm>

#include "attention/sage2/launch.h"
#include "tests/attention/sage2/gpu/operands.h"

namespace sagelab::attention::sage2::test {
namespace {

std::vector<Settings> of_kernel(Arch arch, Qk qk, Pv pv) {
  std::vector<Settings> all;
  for (const VScale v : {VScale::Channel, VScale::Tile, VScale::Sampled}) {
    if (v != VScale::Channel && pv == Pv::Fp16) continue;
    if (v == VScale::Sampled && pv != Pv::Fp8) continue;
    for (const Mean smooth_v : {Mean::Off, Mean::Full, Mean::Sampled}) {
      for (const Mean smooth_k : {Mean::Off, Mean::Full, Mean::Sampled}) {
        for (const bool smooth_q : {false, true}) {
          if (smooth_q && qk != Qk::Int4) continue;
          Settings s;
          s.arch = arch, s.qk = qk, s.pv = pv, s.v = v;
          s.smooth_v = smooth_v, s.smooth_k = smooth_k, s.smooth_q = smooth_q;
          all.push_back(s);
        }
      }
    }
  }
  return all;
}

struct Kernel {
  const char* name;
  Arch arch;
  Qk qk;
  Pv pv;
};
constexpr Kernel kKernels[] = {
    {"sm80_int8_fp16", Arch::Sm80, Qk::Int8, Pv::Fp16},
    {"sm80_int4_fp16", Arch::Sm80, Qk::Int4, Pv::Fp16},
    {"sm89_int8_fp8", Arch::Sm89, Qk::Int8, Pv::Fp8},
    {"sm89_int8_fp8half", Arch::Sm89, Qk::Int8, Pv::Fp8Half},
    {"sm89_int4_fp8", Arch::Sm89, Qk::Int4, Pv::Fp8},
    {"sm89_int4_fp8half", Arch::Sm89, Qk::Int4, Pv::Fp8Half},
    {"sm90_int8_fp8", Arch::Sm90, Qk::Int8, Pv::Fp8},
};

void PrintTo(const Kernel& kernel, std::ostream* out) {
  *out << kernel.name;
}

class Operands : public OnGpu, public testing::WithParamInterface<Kernel> {
 protected:
  void SetUp() override {
    OnGpu::SetUp();
    if (IsSkipped()) return;
    const Kernel& k = GetParam();
    const int wanted = k.arch == Arch::Sm80 ? 80 : k.arch == Arch::Sm89 ? 89 : 90;
    const int capability = compute_capability(cuda());
    if (capability < wanted)
      GTEST_SKIP() << "needs compute capability " << wanted << ", this is " << capability;
    all_ = of_kernel(k.arch, k.qk, k.pv);
    fill_free_memory(0xff);
  }
  std::vector<Settings> all_;
};

const Shape kOperandShapes[] = {{1, 1, 64},
                                {9, 127, 128, 4, 2},
                                {127, 9, 40},
                                {129, 300, 96, 4, 1, 2},
                                {300, 129, 128, 2, 1},
                                {300, 300, 64, 6, 3, 2},
                                {1, 300, 8},
                                {300, 1, 128}};

// Values that tell the parts apart: offsets in K, channels of V of different size and mean.
Call telling_call(const Shape& shape, at::ScalarType dtype, uint64_t seed = 3) {
  Call call = call_of(shape, seed);
  call.k = call.k + normal({1, 1, shape.kv_heads, shape.head_dim}, 7, at::kFloat, at::kCPU, 4);
  call.v = call.v * at::linspace(.1, 30, shape.head_dim) + at::linspace(2, -9, shape.head_dim);
  call.want_lse = true;
  return on_cuda(call, dtype);
}

TEST_P(Operands, AreTheTwinsBitForBit) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    for (const Shape& shape : kOperandShapes) {
      const Call call = telling_call(shape, dtype), wide = widened(call);
      for (const Settings& s : all_) {
        SCOPED_TRACE(describe(s, call));
        const Quantized gpu = on_cpu(quantize_on_cuda(call, s));
        expect_same_bits(gpu, twin_with_means_of(gpu, wide, s));
        expect_sums(gpu, wide, s);
        EXPECT_FALSE(gpu.q_odd.any().item<bool>() || gpu.kv_odd.any().item<bool>());
        if (HasFailure()) return;  // one report is enough
      }
    }
  }
}

TEST_P(Operands, MarkTilesOfValuesThatAreNotFinite) {
  Call call = telling_call({300, 300, 64, 4, 2}, at::kBFloat16);
  call.q[0][130][1][5] = kInfinity;
  call.q[0][131][1][6] = -kInfinity;
  call.k[0][299][0][63] = std::numeric_limits<float>::quiet_NaN();
  call.v[0][70][1][0] = -kInfinity;
  const Call wide = widened(call);
  for (const Settings& s : all_) {
    SCOPED_TRACE(describe(s, call));
    const Quantized gpu = on_cpu(quantize_on_cuda(call, s));
    expect_same_bits(gpu, twin_with_means_of(gpu, wide, s));
    EXPECT_EQ(gpu.q_odd.sum().item<int64_t>(), 1);
    EXPECT_EQ(gpu.kv_odd.sum().item<int64_t>(), 2);
    if (HasFailure()) return;
  }
}

// -0, denormals, all of a group zero, and the largest of each type.
TEST_P(Operands, OfValuesAtTheEdges) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    Call call = telling_call({130, 130, 128, 2, 2}, dtype);
    const bool half = dtype == at::kHalf;
    for (at::Tensor* x : {&call.q, &call.k, &call.v}) {
      x->narrow(1, 0, 16).zero_();
      x->narrow(1, 3, 1).fill_(-0.);
      x->narrow(1, 64, 64).fill_(half ? 6e-8 : 1e-40);
      x->select(1, 129).fill_(half ? 65504. : 3e37);
    }
    const Call wide = widened(call);
    for (const Settings& s : all_) {
      SCOPED_TRACE(describe(s, call));
      const Quantized gpu = on_cpu(quantize_on_cuda(call, s));
      expect_same_bits(gpu, twin_with_means_of(gpu, wide, s));
      if (HasFailure()) return;
    }
  }
}

// A value that no sample sees, beyond all room that a sampled scale has left: of one head.
TEST_P(Operands, WhereSampledScalesHaveNoRoom) {
  Call call = telling_call({9, 300, 64, 4, 4}, at::kBFloat16);
  call.v[0][40][1][3] = 3e4;
  const Call wide = widened(call);
  for (const Settings& s : all_) {
    SCOPED_TRACE(describe(s, call));
    const Quantized gpu = on_cpu(quantize_on_cuda(call, s));
    expect_same_bits(gpu, twin_with_means_of(gpu, wide, s));
    expect_sums(gpu, wide, s);
    if (s.pv != Pv::Fp16) {
      EXPECT_GT(gpu.v_scale.select(1, 1).select(2, 3).max().item<double>(), 60);
    }
    if (HasFailure()) return;
  }
}

// Views of a packed projection, rows that no load of 16 bytes fits, and segments one after the other.
TEST_P(Operands, OfViewsAndSegmentsAreThoseOfTheWhole) {
  const Call dense = telling_call({300, 300, 64, 4, 4, 2}, at::kBFloat16);
  Call packed = dense, odd = dense;
  const at::Tensor qkv = at::stack({dense.q, dense.k, dense.v}, 2);
  packed.q = qkv.select(2, 0), packed.k = qkv.select(2, 1), packed.v = qkv.select(2, 2);
  for (at::Tensor* x : {&odd.q, &odd.k, &odd.v}) {
    const at::Tensor wide = at::empty({2, 300, 4 * 64 + 3}, x->options());
    *x = wide.narrow(2, 1, 4 * 64).unflatten(2, {4, 64}).copy_(*x);
  }
  const auto segment = [&](int64_t first, int64_t count) {
    const auto rows = [&](const at::Tensor& x) { return x.narrow(1, first, count); };
    return Segment{rows(packed.q), rows(packed.k), rows(packed.v), {}, {}, {}, at::empty_like(rows(dense.q))};
  };
  const std::vector<Segment> segments{segment(0, 7), segment(7, 0), segment(7, 250), segment(257, 43)};
  for (const Settings& s : all_) {
    SCOPED_TRACE(describe(s, dense));
    const Quantized whole = on_cpu(quantize_on_cuda(dense, s));
    expect_same_bits(on_cpu(quantize_on_cuda(packed, s)), whole);
    expect_same_bits(on_cpu(quantize_on_cuda(odd, s)), whole);
    expect_same_bits(on_cpu(quantize_on_cuda(JointCall{segments, dense.scale, {}}, s)), whole);
    if (HasFailure()) return;
  }
}

// The comparison is not blind: one byte, one scale, one flag.
TEST_P(Operands, ThatDifferAreSeen) {
  const Call call = telling_call({129, 129, 64}, at::kBFloat16);
  const Quantized gpu = on_cpu(quantize_on_cuda(call, all_.front()));
  for (at::Tensor Quantized::*part : kExact) {
    Quantized wrong = gpu;
    wrong.*part = (gpu.*part).clone();
    (wrong.*part).view(at::kByte).flatten()[-1].bitwise_xor_(1);
    EXPECT_NE(difference(gpu, wrong), "");
  }
  EXPECT_EQ(difference(gpu, gpu), "");
}

INSTANTIATE_TEST_SUITE_P(Gpu, Operands, testing::ValuesIn(kKernels),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace sagelab::attention::sage2::test
