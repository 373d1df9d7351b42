// SPDX-License-Identifier: Apache-2.0
// What the bounds are worth: each of these mistakes in a joint call must show as an error above the bound
// that conformance accepts.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string_view>

#include "attention/joint.h"
#include "attention/recorder.h"
#include "attention/registry.h"
#include "tests/attention/exact.h"

namespace sagelab::attention::test {
namespace {

struct Mistake {
  std::string_view name;
  std::function<void(JointCase&)> make;
};
constexpr std::string_view kAfterwards = "outs exchanged";

void each(JointCase& joint, const std::function<void(Segment&)>& change) {
  for (Segment& s : joint.segments) change(s);
}

// Turns pairs (2j, 2j+1) into pairs (j, j + D/2) by ordering the columns so.
at::Tensor halves(const at::Tensor& x) {
  return x.unflatten(3, {2, x.size(3) / 2}).transpose(3, 4).flatten(3);
}

void each_frequencies(JointCase& joint, const std::function<at::Tensor(const at::Tensor&)>& change) {
  each(joint, [&](Segment& s) { s.rope.frequencies = change(s.rope.frequencies); });
}

std::vector<Mistake> mistakes_of_positions() {
  return {
      {"axes turned",
       [](JointCase& j) { each(j, [](Segment& s) { s.rope.positions = s.rope.positions.roll(1, 1); }); }},
      {"two axes exchanged",
       [](JointCase& j) {
         each_frequencies(j, [](const at::Tensor& f) { return at::stack({f[0], f[2], f[1]}); });
       }},
      {"an axis left out",
       [](JointCase& j) {
         each(j, [](Segment& s) {
           s.rope.positions = s.rope.positions.clone();
           s.rope.positions.select(1, 2).zero_();
         });
       }},
      {"heads shifted",
       [](JointCase& j) { each_frequencies(j, [](const at::Tensor& f) { return f.roll(1, 1); }); }},
      {"one head's frequencies for all",
       [](JointCase& j) {
         each_frequencies(j, [](const at::Tensor& f) { return f.narrow(1, 0, 1).expand_as(f).contiguous(); });
       }},
      {"pairs a place late",
       [](JointCase& j) { each_frequencies(j, [](const at::Tensor& f) { return f.roll(1, 2); }); }},
      {"positions a row late",
       [](JointCase& j) { each(j, [](Segment& s) { s.rope.positions = s.rope.positions.roll(1, 0); }); }},
      {"rotated the other way",
       [](JointCase& j) { each_frequencies(j, [](const at::Tensor& f) { return -f; }); }},
  };
}

std::vector<Mistake> mistakes() {
  return {
      {"scale of 1/sqrt(D+1)", [](JointCase& j) { j.scale *= std::sqrt(64.0 / 65.0); }},
      {"keys of the text dropped",
       [](JointCase& j) {
         j.segments[0].k = j.segments[1].k.narrow(1, 0, 19),
         j.segments[0].v = j.segments[1].v.narrow(1, 0, 19);
       }},
      {"eps x 10", [](JointCase& j) { each(j, [](Segment& s) { s.q_norm.eps *= 10, s.k_norm.eps *= 10; }); }},
      {"eps of q x 10", [](JointCase& j) { each(j, [](Segment& s) { s.q_norm.eps *= 10; }); }},
      {"rotated the other way", [](JointCase& j) { each(j, [](Segment& s) { s.rope.sin = -s.rope.sin; }); }},
      {"key's half pairs", [](JointCase& j) { each(j, [](Segment& s) { s.k = halves(s.k); }); }},
      {"no RoPE on text", [](JointCase& j) { j.segments[0].rope = {}; }},
      {"RoPE a row late",
       [](JointCase& j) {
         Rope& r = j.segments[1].rope;
         r.cos = r.cos.roll(1, 0), r.sin = r.sin.roll(1, 0);
       }},
      {"rms for layer norm",
       [](JointCase& j) { each(j, [](Segment& s) { s.q_norm.kind = s.k_norm.kind = Norm::Kind::Rms; }); }},
      {"norms of q and k swapped",
       [](JointCase& j) { each(j, [](Segment& s) { std::swap(s.q_norm, s.k_norm); }); }},
      {"weight left out", [](JointCase& j) { each(j, [](Segment& s) { s.k_norm.weight.reset(); }); }},
      {"bias left out", [](JointCase& j) { each(j, [](Segment& s) { s.k_norm.bias.reset(); }); }},
      {kAfterwards,
       [](JointCase& j) {
         j.segments[0].out.copy_(j.segments[1].out.narrow(1, 0, j.segments[0].out.size(1)).clone());
       }},
  };
}

// Runs the call with and without each mistake against the definition.
void expect_every_mistake_shows(const JointShape& shape, const std::vector<Mistake>& mistakes) {
  const BackendPtr backend = make_backend("sdpa");
  const Entry& entry = backends().front();
  ASSERT_EQ(entry.spec, "sdpa");
  // As conformance has it for joint calls.
  const double bound = 1.5 * (shape.dtype == at::kFloat  ? entry.bound_fp32
                              : shape.dtype == at::kHalf ? entry.bound_fp16
                                                         : entry.bound_bf16);
  const JointCase right(shape);
  const ExactGathered exact = exact_gather(right.call());
  const auto rounded = [&](const at::Tensor& t) { return t.to(shape.dtype).to(at::kDouble); };
  const at::Tensor expected =
      exact_attention(rounded(exact.q), rounded(exact.k), rounded(exact.v), right.scale, false).out;
  const auto error_of = [&](const Mistake& mistake) {
    JointCase joint(shape);
    Recorder recorder;
    if (mistake.name != kAfterwards) mistake.make(joint);
    backend->run_joint(joint.call(), recorder);
    if (mistake.name == kAfterwards) mistake.make(joint);
    EXPECT_EQ(recorder.calls().at(0).fused, shape.device.is_cuda());
    return relative_error(joint.outs(), expected);
  };
  EXPECT_LE(error_of({"none", [](JointCase&) {}}), bound);
  for (const Mistake& m : mistakes) {
    const double error = error_of(m);
    printf("%-32s %s %s error %.1e, bound %.1e\n", m.name.data(), shape.device.str().c_str(),
           name_of(shape.dtype).c_str(), error, bound);
    EXPECT_GT(error, bound) << m.name;
    EXPECT_TRUE(std::isfinite(error)) << m.name;
  }
}

class Mutation : public testing::TestWithParam<at::ScalarType> {
 protected:
  static JointShape shape(const at::Device& device) {
    JointShape shape;
    shape.lengths = {19, 61};
    shape.input_scale = 8e-3;  // a variance near eps, or no eps could be seen
    shape.eps = 1e-5;
    shape.dtype = GetParam();
    shape.device = device;
    return shape;
  }
};

TEST_P(Mutation, EveryMistakeShows) {
  for (const at::Device& device : devices()) expect_every_mistake_shows(shape(device), mistakes());
}

TEST_P(Mutation, EveryMistakeOfPositionsShows) {
  for (const at::Device& device : devices()) {
    JointShape positions = shape(device);
    positions.rope = RopeForm::Positions;
    expect_every_mistake_shows(positions, mistakes_of_positions());
  }
}

INSTANTIATE_TEST_SUITE_P(Every, Mutation, testing::Values(at::kFloat, at::kHalf, at::kBFloat16),
                         [](const auto& info) { return name_of(info.param); });

}  // namespace
}  // namespace sagelab::attention::test
