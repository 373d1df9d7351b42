// SPDX-License-Identifier: Apache-2.0
// What the bounds are worth: each of these mistakes in a joint call must show as an error above the bound
// that conformance accepts.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "attention/joint.h"
#include "attention/recorder.h"
#include "attention/registry.h"
#include "tests/attention/exact.h"

namespace sagelab::attention::test {
namespace {

struct Mistake {
  const char* name;
  std::function<void(JointCase&)> make;
};

void each(JointCase& joint, const std::function<void(Segment&)>& change) {
  for (Segment& s : joint.segments) change(s);
}

// Turns pairs (2j, 2j+1) into pairs (j, j + D/2) by ordering the columns so.
at::Tensor halves(const at::Tensor& x) {
  return x.unflatten(3, {2, x.size(3) / 2}).transpose(3, 4).flatten(3);
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
      {"outs exchanged",
       [](JointCase& j) {
         j.segments[0].out.copy_(j.segments[1].out.narrow(1, 0, j.segments[0].out.size(1)).clone());
       }},
  };
}

class Mutation : public testing::TestWithParam<at::ScalarType> {};

TEST_P(Mutation, EveryMistakeShows) {
  JointShape shape;
  shape.lengths = {19, 61};
  shape.input_scale = 8e-3;  // a variance near eps, or no eps could be seen
  shape.eps = 1e-5;
  shape.dtype = GetParam();
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
  const auto error_of = [&](const std::function<void(JointCase&)>& make, bool afterwards) {
    JointCase joint(shape);
    Recorder recorder;
    if (!afterwards) make(joint);
    backend->run_joint(joint.call(), recorder);
    if (afterwards) make(joint);
    return relative_error(joint.outs(), expected);
  };
  EXPECT_LE(error_of([](JointCase&) {}, false), bound);
  for (const Mistake& m : mistakes()) {
    const double error = error_of(m.make, std::string_view(m.name) == "outs exchanged");
    printf("%-28s %s error %.1e, bound %.1e\n", m.name, name_of(shape.dtype).c_str(), error, bound);
    EXPECT_GT(error, bound) << m.name;
    EXPECT_TRUE(std::isfinite(error)) << m.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Every, Mutation, testing::Values(at::kFloat, at::kHalf, at::kBFloat16),
                         [](const auto& info) { return name_of(info.param); });

}  // namespace
}  // namespace sagelab::attention::test
