// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "attention/error.h"
#include "attention/recorder.h"
#include "attention/registry.h"
#include "attention/spec.h"
#include "attention/wrap/check.h"
#include "attention/wrap/prefer.h"
#include "attention/wrap/schedule.h"
#include "attention/wrap/selector.h"
#include "attention/wrap/timed.h"
#include "tests/attention/exact.h"

namespace sagelab::attention::test {
namespace {

// Serves joint calls in its own pass, as a fusing backend does, and answers with one value; refuses by
// length.
class Fake final : public Backend {
 public:
  explicit Fake(std::string name, double value = 1, int64_t longest = 1 << 30)
      : name_(std::move(name)), value_(value), longest_(longest) {}
  std::string name() const override { return name_; }
  std::string unsupported(const Problem& p) const override {
    return p.kv_len <= longest_ ? "" : fmt::format("{} keys are above {}", p.kv_len, longest_);
  }
  Output run(const Call& call, Recorder& recorder) const override {
    recorder.served(call.site, name_, false);
    seen.push_back(call);
    return {at::full(call.q.sizes(), value_, call.q.options()), {}};
  }
  void run_joint(const JointCall& call, Recorder& recorder) const override {
    recorder.served(call.site, name_, true);
    for (const Segment& s : call.segments) {
      if (s.out.defined()) s.out.copy_(at::full(s.out.sizes(), value_, s.out.options()));
    }
  }
  mutable std::vector<Call> seen;

 private:
  std::string name_;
  double value_;
  int64_t longest_;
};

std::shared_ptr<Fake> fake(std::string name, double value = 1, int64_t longest = 1 << 30) {
  return std::make_shared<Fake>(std::move(name), value, longest);
}

Site site(int step, int layer) {
  return {step, 10, layer, 30, Branch::Cond, 0, "block"};
}

Call plain_call(int64_t rows = 40) {
  const auto make = [&](uint64_t seed) { return normal({1, rows, 2, 16}, seed, at::kFloat, at::kCPU); };
  return {make(1), make(2), make(3), 0.25, false, false, {}, false, {}};
}

TEST(Wrap, EveryWrapperReportsJointCallsAsTheInnerDoes) {
  const auto inner = fake("inner");
  const auto selector = std::make_shared<Selector>(inner);
  const auto prefer = std::make_shared<Prefer>(std::vector<BackendPtr>{selector, fake("other")});
  const auto schedule = std::make_shared<Schedule>(std::vector<Schedule::Rule>{}, prefer);
  const auto check = std::make_shared<Check>(schedule, make_backend("reference"), 8, 0);
  const Timed timed(check);
  const JointCase joint((JointShape()));
  Recorder recorder;
  for (int i = 0; i < 5; ++i) timed.run_joint(joint.call(), recorder);
  recorder.collect();
  ASSERT_EQ(recorder.served().size(), 1u);
  EXPECT_EQ(recorder.served().at("inner").calls, 5);
  EXPECT_EQ(recorder.served().at("inner").fused, 5);
  EXPECT_GT(recorder.served().at("inner").seconds, 0);
  EXPECT_TRUE((joint.outs() == 1).all().item<bool>());
  EXPECT_TRUE(inner->seen.empty());
}

TEST(Selector, SwitchesAtOnce) {
  Selector selector(fake("a"));
  EXPECT_EQ(selector.name(), "a");
  const BackendPtr pinned = selector.current();
  selector.set(fake("b"));
  Recorder recorder;
  selector.run(plain_call(), recorder);
  pinned->run(plain_call(), recorder);
  EXPECT_EQ(recorder.served().at("b").calls, 1);
  EXPECT_EQ(recorder.served().at("a").calls, 1);
}

TEST(Prefer, FallsBackByReasonAndSaysSo) {
  const Prefer prefer({fake("short", 1, 30), fake("middle", 2, 60), fake("long", 3)});
  EXPECT_EQ(prefer.name(), "prefer(short,middle,long)");
  Recorder recorder;
  EXPECT_EQ(prefer.run(plain_call(20), recorder).out.max().item<double>(), 1);
  EXPECT_EQ(recorder.fallback_count(), 0);
  EXPECT_EQ(prefer.run(plain_call(40), recorder).out.max().item<double>(), 2);
  EXPECT_EQ(prefer.run(plain_call(70), recorder).out.max().item<double>(), 3);
  const JointCase joint((JointShape()));  // 48 keys
  prefer.run_joint(joint.call(), recorder);
  EXPECT_TRUE((joint.outs() == 2).all().item<bool>());
  EXPECT_EQ(recorder.fallback_count(), 3);
  ASSERT_EQ(recorder.fallbacks().size(), 3u);
  EXPECT_EQ(recorder.fallbacks()[1].from, "short");
  EXPECT_EQ(recorder.fallbacks()[1].to, "long");
  EXPECT_EQ(recorder.fallbacks()[1].reason, "70 keys are above 30");
  EXPECT_EQ(recorder.served().at("middle").fused, 1);
}

TEST(Prefer, ThrowsEveryReasonWhereNoneCan) {
  const Prefer prefer({fake("a", 1, 10), fake("b", 1, 20)});
  Recorder recorder;
  try {
    prefer.run(plain_call(40), recorder);
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(),
                 "attention 'prefer(a,b)' cannot run here: a: 40 keys are above 10; b: 40 keys are above 20");
  }
  EXPECT_EQ(recorder.fallback_count(), 0);
}

TEST(Check, MeasuresOnlyTheChosenRowsAndLeavesTheOutputAlone) {
  const auto sample = fake("sample");
  const Check check(make_backend("sdpa(math)"), sample, 8, 3);
  const Call call = plain_call();
  Recorder alone, recorder;
  const at::Tensor expected = make_backend("sdpa(math)")->run(call, alone).out;
  const Output output = check.run(call, recorder);
  EXPECT_TRUE(output.out.equal(expected));
  EXPECT_EQ(recorder.served().size(), 1u);
  ASSERT_EQ(sample->seen.size(), 1u);
  EXPECT_EQ(sample->seen[0].q.size(1), 8);
  EXPECT_EQ(sample->seen[0].k.size(1), 40);
  // Every row that b saw is a row of q, in order, and none twice.
  std::set<int64_t> rows;
  for (int64_t i = 0; i < 8; ++i) {
    const at::Tensor same = (call.q == sample->seen[0].q.narrow(1, i, 1)).all(3).all(2).squeeze(0);
    ASSERT_EQ(same.sum().item<int64_t>(), 1);
    rows.insert(same.to(at::kInt).argmax().item<int64_t>());
  }
  EXPECT_EQ(rows.size(), 8u);
  ASSERT_EQ(recorder.measurements().size(), 1u);
  EXPECT_EQ(recorder.measurements()[0].a, "sdpa(math)");
  EXPECT_EQ(recorder.measurements()[0].b, "sample");
}

TEST(Check, RowsDependOnSeedAndSite) {
  const auto rows_seen = [](uint64_t seed, const Site& where) {
    const auto sample = fake("sample");
    Recorder recorder;
    Call call = plain_call();
    call.site = where;
    Check(fake("a"), sample, 8, seed).run(call, recorder);
    return sample->seen[0].q;
  };
  const at::Tensor first = rows_seen(1, site(0, 0));
  EXPECT_TRUE(first.equal(rows_seen(1, site(0, 0))));
  EXPECT_FALSE(first.equal(rows_seen(2, site(0, 0))));
  EXPECT_FALSE(first.equal(rows_seen(1, site(1, 0))));
  EXPECT_FALSE(first.equal(rows_seen(1, site(0, 1))));
}

TEST(Check, FiguresAreTheDefinition) {
  const at::Tensor a = normal({5, 7}, 1, at::kDouble, at::kCPU), b = normal({5, 7}, 2, at::kDouble, at::kCPU);
  double ab = 0, aa = 0, bb = 0, distance = 0, size = 0, square = 0, most = 0;
  for (int64_t i = 0; i < 35; ++i) {
    const double x = a.const_data_ptr<double>()[i], y = b.const_data_ptr<double>()[i];
    ab += x * y, aa += x * x, bb += y * y, distance += std::abs(x - y), size += std::abs(y);
    square += (x - y) * (x - y), most = std::max(most, std::abs(x - y));
  }
  const Errors e = errors_from(error_figures(a, b));
  EXPECT_NEAR(e.cosine, ab / std::sqrt(aa * bb), 1e-12);
  EXPECT_NEAR(e.relative_l1, distance / size, 1e-12);
  EXPECT_NEAR(e.rmse, std::sqrt(square / 35), 1e-12);
  EXPECT_NEAR(e.max_abs, most, 1e-12);

  const Errors none = errors_from(error_figures(a, a));
  EXPECT_NEAR(none.cosine, 1, 1e-14);
  EXPECT_EQ(none.relative_l1, 0);
  EXPECT_EQ(none.max_abs, 0);
  const Errors broken = errors_from(error_figures(at::full_like(a, NAN), b));
  EXPECT_TRUE(std::isnan(broken.cosine) && std::isnan(broken.relative_l1) && std::isnan(broken.max_abs));
  const Errors empty = errors_from(error_figures(a.narrow(0, 0, 0), b.narrow(0, 0, 0)));
  EXPECT_EQ(empty.cosine, 1);
  EXPECT_EQ(empty.max_abs, 0);
}

TEST(Check, JointCallsOnEveryDevice) {
  for (const at::Device& device : devices()) {
    for (const char* spec :
         {"check(sdpa,reference,rows=16)", "check(sdpa,reference,rows=all)", "check(sdpa,reference)"}) {
      SCOPED_TRACE(fmt::format("{} {}", spec, device.str()));
      JointShape shape;
      shape.device = device;
      shape.lengths = {30, 60, 5};
      shape.queries = {true, true, false};
      JointCase joint(shape), alone(shape);
      Recorder recorder, other;
      make_backend("sdpa")->run_joint(alone.call(), other);
      JointCall call = joint.call();
      call.site = site(3, 4);
      make_backend(spec)->run_joint(call, recorder);
      EXPECT_TRUE(joint.outs().equal(alone.outs()));
      EXPECT_TRUE(joint.surroundings_untouched());
      recorder.collect();
      ASSERT_EQ(recorder.measurements().size(), 1u);
      const Measurement m = recorder.measurements()[0];
      EXPECT_EQ(m.a, recorder.last_served());
      EXPECT_EQ(m.b, "reference");
      EXPECT_EQ(m.site.layer, 4);
      EXPECT_NEAR(m.errors.cosine, 1, 1e-6);
      EXPECT_LT(m.errors.relative_l1, 1e-5);
      EXPECT_LT(m.errors.max_abs, 1e-4);
      EXPECT_LE(m.errors.rmse, m.errors.max_abs);
    }
  }
}

TEST(Check, ADifferenceShows) {
  Recorder recorder;
  const Call call = plain_call();
  Check(fake("two", 2), fake("one", 1), Check::kAllRows, 0).run(call, recorder);
  ASSERT_EQ(recorder.measurements().size(), 1u);
  const Errors e = recorder.measurements()[0].errors;
  EXPECT_NEAR(e.cosine, 1, 1e-12);
  EXPECT_EQ(e.relative_l1, 1);
  EXPECT_EQ(e.rmse, 1);
  EXPECT_EQ(e.max_abs, 1);
}

TEST(Check, CausalRowsKeepTheirPlace) {
  Recorder recorder;
  Call call = plain_call();
  call.causal = true;
  make_backend("check(sdpa(math),reference,rows=4)")->run(call, recorder);
  EXPECT_LT(recorder.measurements().at(0).errors.max_abs, 1e-5);
}

TEST(Check, RefusesWhereEitherCannot) {
  Problem p;
  p.kv_len = 40;
  EXPECT_EQ(Check(fake("a", 1, 10), fake("b"), 8, 0).unsupported(p), "40 keys are above 10");
  EXPECT_EQ(Check(fake("a"), fake("b", 1, 10), 8, 0).unsupported(p), "its b cannot: 40 keys are above 10");
  EXPECT_EQ(Check(fake("a"), fake("b"), 8, 0).unsupported(p), "");
}

TEST(Timed, BooksOnWhoeverServed) {
  for (const at::Device& device : devices()) {
    JointShape shape;
    shape.device = device;
    shape.dtype = device.is_cpu() ? at::kFloat : at::kBFloat16;
    const JointCase joint(shape);
    Recorder recorder;
    make_backend("timed(prefer(sdpa(cudnn),sdpa(math)))")->run_joint(joint.call(), recorder);
    recorder.collect();
    ASSERT_EQ(recorder.served().size(), 1u);
    const auto& [name, served] = *recorder.served().begin();
    EXPECT_EQ(name, device.is_cpu() ? "sdpa(math)" : "sdpa(cudnn)");
    EXPECT_GT(served.seconds, 0);
    EXPECT_LT(served.seconds, 60);
  }
}

TEST(Schedule, FirstMatchWins) {
  const BackendPtr made =
      make_backend("schedule(steps=0-1+last:sdpa(math),layers=0+3-5+last:reference,else:sdpa(flash))");
  const auto& schedule = dynamic_cast<const Schedule&>(*made);
  EXPECT_EQ(schedule.at(site(0, 7)).name(), "sdpa(math)");
  EXPECT_EQ(schedule.at(site(1, 0)).name(), "sdpa(math)");
  EXPECT_EQ(schedule.at(site(9, 0)).name(), "sdpa(math)");
  for (const int layer : {0, 3, 4, 5, 29}) EXPECT_EQ(schedule.at(site(2, layer)).name(), "reference");
  for (const int layer : {1, 2, 6, 28}) EXPECT_EQ(schedule.at(site(8, layer)).name(), "sdpa(flash)");
}

TEST(Schedule, ServesBothCalls) {
  const Schedule schedule({{Schedule::Axis::Steps, {{0, 0}}, fake("first", 1)}}, fake("rest", 2));
  const JointCase joint((JointShape()));
  Recorder recorder;
  for (int step = 0; step < 3; ++step) {
    JointCall call = joint.call();
    call.site = site(step, 0);
    schedule.run_joint(call, recorder);
    Call plain = plain_call();
    plain.site = call.site;
    EXPECT_EQ(schedule.run(plain, recorder).out.max().item<double>(), step == 0 ? 1 : 2);
  }
  EXPECT_EQ(recorder.served().at("first").calls, 2);
  EXPECT_EQ(recorder.served().at("first").fused, 1);
  EXPECT_EQ(recorder.served().at("rest").calls, 4);
}

TEST(Schedule, RefusesWhereAnyMemberCannot) {
  Problem p;
  p.kv_len = 40;
  const Schedule schedule({{Schedule::Axis::Steps, {{0, 0}}, fake("short", 1, 10)}}, fake("rest"));
  EXPECT_EQ(schedule.unsupported(p), "its short cannot: 40 keys are above 10");
}

}  // namespace
}  // namespace sagelab::attention::test
