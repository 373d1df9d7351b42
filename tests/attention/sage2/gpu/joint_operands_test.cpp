// SPDX-License-Identifier: Apache-2.0
// The prologue with norm and RoPE in it against the twin of what ATen's operations give in fp32: both round
// several times on the way, so a value may fall on the other side of a rounding boundary, and no further.
#include <algorithm>
#include <vector>

#include "attention/sage2/launch.h"
#include "tests/attention/sage2/gpu/operands.h"

namespace sagelab::attention::sage2::test {
namespace {

using attention::test::JointCase;
using attention::test::JointShape;
using attention::test::RopeForm;

constexpr double kEqual = .9999;  // share of the values of Q and K
// Of scales. Sums of squares, roots, products and rotations in two orders are as a rule 2 ulp apart at most:
// ATen's operations and the same with the kernels' order of summation, compared on the CPU, differ by more in
// 2 of 100 scales, and by 6 at most.
constexpr int kFewUlps = 2, kMostUlps = 8;
constexpr double kWithinFew = .96;
// Of means, relative to the mean magnitude: those of sums (Note [Sums]), and as much for norm and rotation.
constexpr double kMeans = 8. / (1 << 23);

// The segments in fp32 on the CPU.
Call reference_of(const JointCall& call) {
  std::vector<Segment> wide(call.segments.begin(), call.segments.end());
  for (Segment& s : wide) {
    for (at::Tensor* x : {&s.q, &s.k, &s.v, &s.out, &s.q_norm.weight, &s.q_norm.bias, &s.k_norm.weight,
                          &s.k_norm.bias, &s.rope.cos, &s.rope.sin, &s.rope.positions, &s.rope.frequencies}) {
      if (x->defined()) *x = x->to(at::kCPU, at::kFloat);
    }
  }
  const Gathered g = gather_reference({wide, call.scale, call.site});
  Call reference;
  reference.q = g.q, reference.k = g.k, reference.v = g.v, reference.scale = call.scale;
  return reference;
}

at::Tensor integers(const at::Tensor& bytes, Qk qk) {
  if (qk == Qk::Int8) return bytes.view(at::kChar).to(at::kInt);
  const at::Tensor nibbles = at::stack({bytes.bitwise_and(15), bytes.__rshift__(4)}, -1).to(at::kInt);
  return at::where(nibbles > 7, nibbles - 16, nibbles);
}

struct Distance {
  int64_t values = 0, unequal = 0, most = 0, scales = 0, apart = 0, ulps = 0;

  // real: of how many, padding left out.
  void add_integers(const at::Tensor& actual, const at::Tensor& expected, Qk qk, int64_t real) {
    const at::Tensor off = (integers(actual, qk) - integers(expected, qk)).abs();
    values += real, unequal += off.ne(0).sum().item<int64_t>();
    most = std::max(most, off.max().item<int64_t>());
  }
  // Scales are positive, so their bits are in their order.
  void add_scales(const at::Tensor& actual, const at::Tensor& expected) {
    const at::Tensor off = (actual.view(at::kInt) - expected.view(at::kInt)).abs();
    scales += off.numel(), apart += off.gt(kFewUlps).sum().item<int64_t>();
    ulps = std::max(ulps, off.max().item<int64_t>());
  }
};

struct JointParameter {
  const char* spec;
  Norm::Kind norm;
  RopeForm rope;
};

std::string name_of_joint(const testing::TestParamInfo<JointParameter>& info) {
  const char* const norms[] = {"no_norm", "rms", "layer"};
  const char* const ropes[] = {"no_rope", "tables", "positions"};
  const JointParameter& p = info.param;
  return fmt::format("{}_{}_{}", name_of_spec({p.spec, 0}), norms[size_t(p.norm)], ropes[size_t(p.rope)]);
}
void PrintTo(const JointParameter& p, std::ostream* out) {
  *out << p.spec;
}

class JointOperands : public OnGpu, public testing::WithParamInterface<JointParameter> {
 protected:
  void SetUp() override {
    OnGpu::SetUp();
    if (IsSkipped()) return;
    const BackendPtr backend = make_backend(GetParam().spec);
    settings_ = dynamic_cast<const Sage2&>(*backend).settings(cuda());
    shape_.lengths = {226, 301, 40}, shape_.queries = {true, true, false};
    shape_.norm = GetParam().norm, shape_.rope = GetParam().rope;
    shape_.dtype = at::kBFloat16, shape_.device = cuda();
    const std::string reason = backend->unsupported(problem_of(JointCase(shape_).call()));
    if (!reason.empty()) GTEST_SKIP() << reason;
    fill_free_memory(0xff);
  }
  void expect_close(const JointShape& shape, Distance& distance) const {
    const JointCase joint(shape);
    const Quantized gpu = on_cpu(quantize_on_cuda(joint.call(), settings_));
    const Call reference = reference_of(joint.call());
    const Quantized twin = twin_with_means_of(gpu, reference, settings_);
    distance.add_integers(gpu.q, twin.q, settings_.qk, reference.q.numel());
    distance.add_integers(gpu.k, twin.k, settings_.qk, reference.k.numel());
    distance.add_scales(gpu.q_scale, twin.q_scale);
    distance.add_scales(gpu.k_scale, twin.k_scale);
    EXPECT_TRUE(same_bits(gpu.v, twin.v) && same_bits(gpu.v_scale, twin.v_scale)) << "V has neither";
    EXPECT_FALSE(gpu.q_odd.any().item<bool>() || gpu.kv_odd.any().item<bool>());
    if (gpu.k_mean.defined()) expect_mean(gpu.k_mean, reference.k, settings_.smooth_k, kMeans);
    if (gpu.v_mean.defined()) expect_v_mean(gpu.v_mean, reference, settings_, kMeans);
  }
  Settings settings_;
  JointShape shape_;
};

TEST_P(JointOperands, AreTheTwinsButForRoundings) {
  Distance distance;
  for (const int64_t head_dim : {64, 128, 96}) {
    for (const int64_t kv_heads : {4, 2}) {
      if (kv_heads != 4 && shape_.rope == RopeForm::Positions) continue;  // frequencies are per head
      JointShape shape = shape_;
      shape.head_dim = head_dim, shape.kv_heads = kv_heads;
      expect_close(shape, distance);
      shape.input_scale = 6, shape.dtype = at::kHalf, shape.bias = shape.weight = false;
      expect_close(shape, distance);
    }
  }
  const double equal = 1 - double(distance.unequal) / double(distance.values);
  printf("%ld of %ld values unequal, %ld of %ld scales more than %d ulp apart, at most %ld\n",
         distance.unequal, distance.values, distance.apart, distance.scales, kFewUlps, distance.ulps);
  EXPECT_GE(distance.values, 1000000);
  EXPECT_GE(equal, kEqual) << distance.unequal << " of " << distance.values;
  EXPECT_LE(distance.most, 1);
  EXPECT_LE(distance.ulps, kMostUlps);
  EXPECT_LE(double(distance.apart), (1 - kWithinFew) * double(distance.scales))
      << distance.scales << " scales";
}

// An input this small shows a wrong eps, and what is rounded to bf16 in between shows too.
TEST_P(JointOperands, ThatDifferAreSeen) {
  JointShape shape = shape_;
  shape.input_scale = 5e-3, shape.eps = 1e-5;
  JointCase joint(shape);
  const Quantized gpu = on_cpu(quantize_on_cuda(joint.call(), settings_));
  const auto distance_to = [&](const Call& reference) {
    const Quantized twin = twin_with_means_of(gpu, reference, settings_);
    Distance distance;
    distance.add_integers(gpu.q, twin.q, settings_.qk, reference.q.numel());
    return double(distance.unequal) / double(distance.values);
  };
  Call reference = reference_of(joint.call());
  EXPECT_LT(distance_to(reference), 1 - kEqual);
  if (shape.norm != Norm::Kind::None || shape.rope != RopeForm::None) {
    reference.q = reference.q.to(at::kBFloat16).to(at::kFloat);
    EXPECT_GT(distance_to(reference), 1 - kEqual) << "rounded on the way";
  }
  if (shape.norm == Norm::Kind::None) return;
  for (Segment& s : joint.segments) s.q_norm.eps *= 10, s.k_norm.eps *= 10;
  const Call wrong = reference_of(joint.call());
  EXPECT_FALSE(at::allclose(reference.q, wrong.q, 1e-2, 1e-2));
  EXPECT_GT(distance_to(wrong), 1 - kEqual) << "another eps";
}

std::vector<JointParameter> joint_parameters() {
  std::vector<JointParameter> all;
  for (const char* spec :
       {"sage2", "sage2(v=channel,smooth_v=off,mean=full)", "sage2(arch=sm80)", "sage2(qk=int4)"}) {
    for (const Norm::Kind norm : {Norm::Kind::None, Norm::Kind::Rms, Norm::Kind::Layer}) {
      for (const RopeForm rope : {RopeForm::None, RopeForm::Tables, RopeForm::Positions}) {
        all.push_back({spec, norm, rope});
      }
    }
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Gpu, JointOperands, testing::ValuesIn(joint_parameters()), name_of_joint);

}  // namespace
}  // namespace sagelab::attention::sage2::test
