// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <set>
#include <thread>

#include "attention/error.h"
#include "attention/registry.h"
#include "attention/wrap/check.h"
#include "attention/wrap/prefer.h"
#include "attention/wrap/schedule.h"
#include "attention/wrap/selector.h"
#include "attention/wrap/timed.h"
#include "tests/attention/wrap/fake.h"

namespace sagelab::attention::test {
namespace {

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

// What serves is what counts: the choice that can, the largest of a schedule; and what a check runs beside
// it.
TEST(Wrap, BytesAreThoseOfWhatServes) {
  const auto short_one = fake("short", 1, 10), small = fake("small"), large = fake("large");
  short_one->bytes = 1 << 20, small->bytes = 1000, large->bytes = 5000;
  const Problem p = problem_of(plain_call());  // 40 queries
  const auto prefer = std::make_shared<Prefer>(std::vector<BackendPtr>{short_one, small, large});
  EXPECT_EQ(prefer->run_bytes(p), 40'000);
  EXPECT_EQ(prefer->joint_bytes(p, true), 80'001);
  Problem few = p;
  few.kv_len = 10;
  EXPECT_EQ(prefer->run_bytes(few), 40 << 20);
  const Schedule schedule({{Schedule::Axis::Steps, {{1, 2}}, large}}, prefer);
  EXPECT_EQ(schedule.run_bytes(p), 200'000);
  EXPECT_EQ(schedule.joint_bytes(p, false), 400'000);
  const Timed timed(std::make_shared<Selector>(small));
  EXPECT_EQ(timed.run_bytes(p), 40'000);
  EXPECT_EQ(timed.joint_bytes(p, true), 80'001);
  const Check check(small, large, 8, 0);  // large runs 8 queries, not joint
  EXPECT_GE(check.joint_bytes(p, false), 80'000);
  EXPECT_LT(check.joint_bytes(p, false), 400'000);
  EXPECT_GE(Check(small, large, Check::kAllRows, 0).joint_bytes(p, false), 400'000);
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

// Fills the outs of a joint call one segment after the other, with time between: a call that two backends
// shared would show both values.
class Slow final : public Backend {
 public:
  explicit Slow(double value) : value_(value) {}
  std::string name() const override { return fmt::format("slow {}", value_); }
  std::string unsupported(const Problem&) const override { return {}; }
  Output run(const Call&, Recorder&) const override { return {}; }
  void run_joint(const JointCall& call, Recorder& recorder) const override {
    for (const Segment& s : call.segments) {
      s.out.fill_(value_);
      std::this_thread::yield();
    }
    recorder.served(call.site, name(), true);
  }

 private:
  double value_;
};

TEST(Selector, ACallIsServedWholeWhileAnotherThreadSwitches) {
  Selector selector(std::make_shared<Slow>(1));
  const JointCase joint((JointShape()));
  Recorder recorder;
  std::atomic<bool> done = false;
  std::thread switching([&] {
    // New ones each time: what is replaced goes once its last call ends.
    for (int i = 0; !done; ++i) selector.set(std::make_shared<Slow>(1 + i % 2));
  });
  int64_t calls = 0;
  std::set<double> values;
  while (calls < 300 || (values.size() < 2 && calls < 100000)) {
    selector.run_joint(joint.call(), recorder);
    calls += 1;
    const at::Tensor outs = joint.outs();
    const double value = outs.max().item<double>();
    values.insert(value);
    if (outs.min().item<double>() == value && recorder.last_served() == fmt::format("slow {}", value))
      continue;
    ADD_FAILURE() << "two backends in one call, the " << calls << "th";
    break;
  }
  done = true;
  switching.join();
  EXPECT_EQ(values, (std::set<double>{1, 2}));
  EXPECT_EQ(recorder.served().at("slow 1").calls + recorder.served().at("slow 2").calls, calls);
}

// What a bench asks for reaches the backend that would serve.
TEST(Wrap, EveryWrapperForwardsPrepared) {
  int ran = 0;
  const auto inner = fake("inner", 1, 30);
  inner->kernel = [&ran] { ++ran; };
  const Call call = plain_call(20);
  const Selector selector(inner);
  selector.prepared(call)();
  Timed(inner).prepared(call)();
  Check(inner, fake("b"), 8, 0).prepared(call)();
  Prefer({inner, fake("b")}).prepared(call)();
  Schedule({{Schedule::Axis::Steps, {{0, 0}}, inner}}, fake("rest")).prepared(call)();
  EXPECT_EQ(ran, 5);
  EXPECT_FALSE(Prefer({inner, fake("b")}).prepared(plain_call(40)));
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
    const auto [name, served] = *recorder.served().begin();
    EXPECT_EQ(name, device.is_cpu() ? "sdpa(math)" : "sdpa(cudnn)");
    EXPECT_GT(served.seconds, 0);
    EXPECT_LT(served.seconds, 60);
  }
}

TEST(Timed, PlainCallsTooBySite) {
  for (const at::Device& device : devices()) {
    const at::Tensor x = normal({1, 40, 2, 16}, 1, at::kFloat, device);
    Call call{x, x, x, 0.25, false, true, {}, false, {}};
    Recorder recorder, other;
    const BackendPtr timed = make_backend("timed(sdpa(math))");
    for (const int layer : {4, 7}) {
      call.site = site(3, layer);
      const Output output = timed->run(call, recorder), plain = make_backend("sdpa(math)")->run(call, other);
      EXPECT_TRUE(output.out.equal(plain.out));
      EXPECT_TRUE(output.lse.equal(plain.lse));
    }
    EXPECT_EQ(recorder.served().at("sdpa(math)").seconds, 0) << "nothing waits before collect()";
    recorder.collect();
    const std::vector<ServedCall> calls = recorder.calls();
    ASSERT_EQ(calls.size(), 2u);
    EXPECT_EQ(calls[0].site.layer, 4);
    EXPECT_EQ(calls[1].site.layer, 7);
    for (const ServedCall& c : calls) {
      EXPECT_EQ(c.backend, "sdpa(math)");
      EXPECT_FALSE(c.fused);
      EXPECT_GT(c.seconds.value_or(0), 0);
      EXPECT_LT(c.seconds.value_or(0), 60);
    }
    EXPECT_NEAR(recorder.served().at("sdpa(math)").seconds, *calls[0].seconds + *calls[1].seconds, 1e-9);
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
