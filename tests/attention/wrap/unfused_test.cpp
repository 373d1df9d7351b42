// SPDX-License-Identifier: Apache-2.0
#include "attention/aten/unfused.h"

#include <gtest/gtest.h>

#include "attention/error.h"
#include "attention/registry.h"
#include "tests/attention/wrap/fake.h"

namespace sagelab::attention::test {
namespace {

// Its inner backend gets a plain call, on what the definition gives, and never the joint one.
TEST(Unfused, MakesThePlainCallItself) {
  const auto inner = fake("inner", 3);
  JointShape shape;
  shape.norm = Norm::Kind::Rms;
  shape.bias = false;
  const JointCase joint(shape);
  JointCall call = joint.call();
  call.site = site(4, 7);
  Recorder recorder;
  Unfused(inner).run_joint(call, recorder);
  ASSERT_EQ(inner->seen.size(), 1u);
  const Call& seen = inner->seen.front();
  const ExactGathered exact = exact_gather(call);
  EXPECT_LT(relative_error(seen.q, exact.q), 3e-7);
  EXPECT_LT(relative_error(seen.k, exact.k), 3e-7);
  EXPECT_EQ(relative_error(seen.v, exact.v), 0);
  EXPECT_EQ(seen.scale, call.scale);
  EXPECT_FALSE(seen.causal || seen.want_lse || seen.fused);
  ASSERT_EQ(recorder.calls().size(), 1u);
  EXPECT_FALSE(recorder.calls()[0].fused);
  EXPECT_EQ(recorder.calls()[0].site.layer, 7);
  EXPECT_TRUE((joint.outs() == 3).all().item<bool>());
  EXPECT_TRUE(joint.surroundings_untouched());
}

// Where the outs are one view, the inner backend may write there.
TEST(Unfused, GivesTheDestination) {
  const at::Tensor qkv = normal({1, 20, 3, 2, 16}, 3, at::kFloat, at::kCPU), out = at::empty({1, 20, 2, 16});
  const auto segment = [&](int64_t first, int64_t count) {
    const at::Tensor rows = qkv.narrow(1, first, count);
    const Norm norm{Norm::Kind::Rms, {}, {}, 1e-6};
    return Segment{rows.select(2, 0),          rows.select(2, 1), rows.select(2, 2), norm, norm, {},
                   out.narrow(1, first, count)};
  };
  const std::vector<Segment> segments{segment(0, 6), segment(6, 14)};
  const auto inner = fake("inner");
  Recorder recorder;
  Unfused(inner).run_joint({segments, 1, {}}, recorder);
  EXPECT_EQ(inner->seen.at(0).out.const_data_ptr(), out.const_data_ptr());
  EXPECT_EQ(inner->seen.at(0).out.sizes(), out.sizes());
}

// The same as the backend's own joint call, but for where values are rounded.
TEST(Unfused, GivesWhatTheBackendGives) {
  struct Case {
    const char* spec;
    double bound_fp32, bound_half;
  };
  const Case cases[] = {{"sdpa(math)", 2e-6, 1e-2}, {"reference", 1e-6, 1e-2}, {"sage2", 2e-2, 6e-2}};
  for (const at::Device& device : devices()) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      for (const Case& c : cases) {
        SCOPED_TRACE(fmt::format("{} {} {}", c.spec, name_of(dtype), device.str()));
        JointShape shape;
        shape.lengths = {33, 120};
        shape.norm = Norm::Kind::Rms;
        shape.dtype = dtype;
        shape.device = device;
        JointCase joint(shape);
        const BackendPtr own = make_backend(c.spec);
        if (!own->unsupported(problem_of(joint.call())).empty()) continue;
        Recorder recorder;
        own->run_joint(joint.call(), recorder);
        const at::Tensor expected = joint.outs();
        joint.poison();
        make_backend(fmt::format("unfused({})", c.spec))->run_joint(joint.call(), recorder);
        EXPECT_LT(relative_error(joint.outs(), expected), dtype == at::kFloat ? c.bound_fp32 : c.bound_half);
        EXPECT_TRUE(joint.surroundings_untouched());
        EXPECT_FALSE(recorder.calls().back().fused);
      }
    }
  }
}

TEST(Unfused, ForwardsTheRest) {
  int ran = 0;
  const auto inner = fake("inner", 2, 45);
  inner->kernel = [&ran] { ++ran; };
  inner->bytes = 1000;
  const Unfused unfused(inner);
  EXPECT_EQ(unfused.name(), "unfused(inner)");
  Recorder recorder;
  EXPECT_EQ(unfused.run(plain_call(), recorder).out.max().item<double>(), 2);
  unfused.prepared(plain_call())();
  EXPECT_EQ(ran, 1);
  Problem p = problem_of(plain_call());
  EXPECT_EQ(unfused.run_bytes(p), 40'000);
  const GatherBytes gathered = gather_bytes(p, true);
  EXPECT_EQ(unfused.joint_bytes(p, true), std::max(gathered.peak, gathered.kept + 40'000));
  Problem on_cuda = p;
  on_cuda.device = at::Device(at::kCUDA, 0);
  inner->bytes = 0;
  EXPECT_EQ(unfused.joint_bytes(on_cuda, true), gathered.peak) << "it runs no pass of ours there either";
  p.kv_len = 46;
  EXPECT_EQ(unfused.unsupported(p), "46 keys are above 45");
}

// It is for benches: no list offers it.
TEST(Unfused, IsNotOffered) {
  for (const Entry& e : backends()) EXPECT_EQ(e.spec.find("unfused"), std::string_view::npos);
  try {
    make_backend("unfusd(sdpa)");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.hint().find("unfused"), std::string::npos) << e.hint();
  }
}

}  // namespace
}  // namespace sagelab::attention::test
