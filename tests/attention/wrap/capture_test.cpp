// SPDX-License-Identifier: Apache-2.0
#include "attention/wrap/capture.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "attention/registry.h"
#include "attention/wrap/selector.h"
#include "tests/attention/wrap/fake.h"

namespace sagelab::attention::test {
namespace {

const Ranges kAll{{0, Range::kLast}};

Capturing into(std::vector<Captured>& seen, Ranges layers = kAll, Ranges steps = kAll) {
  return {std::move(layers), std::move(steps), [&seen](const Captured& c) { seen.push_back(c); }};
}

void expect_same(const Captured& captured, const Gathered& g) {
  EXPECT_TRUE(captured.q.equal(g.q));
  EXPECT_TRUE(captured.k.equal(g.k));
  EXPECT_TRUE(captured.v.equal(g.v));
}

// Two segments; text whose queries are left out; one alone; per-head frequencies.
std::vector<JointShape> shapes(const at::Device& device) {
  JointShape two;
  two.device = device;
  two.dtype = device.is_cpu() ? at::kFloat : at::kBFloat16;
  JointShape keys_only = two, one = two, positions = two;
  keys_only.queries = {false, true};
  one.lengths = {41}, one.queries = {true};
  positions.rope = RopeForm::Positions;
  positions.norm = Norm::Kind::Rms, positions.bias = false;
  return {two, keys_only, one, positions};
}

TEST(Capture, TheResultAndWhoServedItAreAsWithoutIt) {
  for (const at::Device& device : devices()) {
    for (const char* spec : {"sdpa(math)", "sage2", "prefer(sdpa(cudnn),reference)"}) {
      const BackendPtr backend = make_backend(spec);
      for (const JointShape& shape : shapes(device)) {
        const JointCase plain(shape), wrapped(shape);
        Recorder without, with;
        backend->run_joint(plain.call(), without);
        std::vector<Captured> seen;
        const Capture capture(backend, into(seen));
        EXPECT_EQ(capture.name(), backend->name());
        capture.run_joint(wrapped.call(), with);
        ASSERT_EQ(seen.size(), 1u) << spec;
        EXPECT_TRUE(plain.outs().equal(wrapped.outs())) << spec << " on " << device;
        EXPECT_TRUE(wrapped.surroundings_untouched());
        ASSERT_EQ(with.calls().size(), 1u);
        EXPECT_EQ(with.calls()[0].backend, without.calls()[0].backend);
        EXPECT_EQ(with.calls()[0].fused, without.calls()[0].fused);
        EXPECT_EQ(with.fallback_count(), without.fallback_count());
      }
    }
  }
}

TEST(Capture, TheSinkSeesWhatTheAttentionSees) {
  for (const at::Device& device : devices()) {
    for (const JointShape& shape : shapes(device)) {
      const JointCase joint(shape);
      JointCall call = joint.call();
      call.site = site(3, 7);
      int told = 0;
      const Gathered expected = gather(call);
      const auto sink = [&](const Captured& c) {
        ++told;
        expect_same(c, expected);
        const ExactGathered exact = exact_gather(call);
        EXPECT_LT(relative_error(c.q.cpu(), exact.q), 4e-3);
        EXPECT_LT(relative_error(c.k.cpu(), exact.k), 4e-3);
        EXPECT_EQ(c.q.scalar_type(), shape.dtype);
        EXPECT_EQ(c.scale, call.scale);
        EXPECT_FALSE(c.causal);
        EXPECT_EQ(c.site.step, 3);
        EXPECT_EQ(c.site.layer, 7);
      };
      Recorder recorder;
      Capture(make_backend("sdpa(math)"), {kAll, kAll, sink}).run_joint(call, recorder);
      EXPECT_EQ(told, 1);
    }
  }
}

TEST(Capture, AFusingBackendStaysFused) {
  const auto inner = fake("inner");
  std::vector<Captured> seen;
  const Capture capture(std::make_shared<Selector>(inner), into(seen));
  const JointCase joint((JointShape()));
  Recorder recorder;
  for (int i = 0; i < 5; ++i) capture.run_joint(joint.call(), recorder);
  EXPECT_EQ(seen.size(), 5u) << "each call, also of one layer and step";
  EXPECT_EQ(recorder.served().at("inner").calls, 5);
  EXPECT_EQ(recorder.served().at("inner").fused, 5);
  EXPECT_TRUE(inner->seen.empty());
}

TEST(Capture, PlainCallsGoThroughAsTheyAre) {
  Call call = plain_call();
  call.causal = call.want_lse = true;
  call.site = site(2, 4);
  const BackendPtr backend = make_backend("sdpa(math)");
  std::vector<Captured> seen;
  Recorder with, without;
  const Output a = Capture(backend, into(seen)).run(call, with), b = backend->run(call, without);
  EXPECT_TRUE(a.out.equal(b.out));
  EXPECT_TRUE(a.lse.equal(b.lse));
  ASSERT_EQ(seen.size(), 1u);
  expect_same(seen[0], {call.q, call.k, call.v});
  EXPECT_TRUE(seen[0].causal);
  EXPECT_EQ(seen[0].scale, 0.25);
  EXPECT_EQ(seen[0].site.layer, 4);
}

TEST(Capture, OnlyTheChosenLayersAndSteps) {
  std::vector<Captured> seen;
  const Capture capture(fake("inner"), into(seen, ranges_from("0+2-3+last"), ranges_from("1+last")));
  const JointCase joint((JointShape()));
  Recorder recorder;
  std::vector<std::pair<int, int>> expected;
  for (const int step : {0, 1, 8, 9})
    for (const int layer : {0, 1, 2, 3, 4, 28, 29}) {
      JointCall call = joint.call();
      call.site = site(step, layer);
      capture.run_joint(call, recorder);
      if ((step == 1 || step == 9) && layer != 1 && layer != 4 && layer != 28)
        expected.emplace_back(step, layer);
    }
  std::vector<std::pair<int, int>> found;
  for (const Captured& c : seen) found.emplace_back(c.site.step, c.site.layer);
  EXPECT_EQ(found, expected);
  EXPECT_EQ(recorder.served().at("inner").calls, 28);
}

TEST(Capture, WhatTheSinkThrowsComesOutAndNothingIsServed) {
  const auto full = [](const Captured&) { throw std::runtime_error("the disk is full"); };
  const Capture capture(fake("inner"), {kAll, kAll, full});
  Recorder recorder;
  EXPECT_THROW(capture.run(plain_call(), recorder), std::runtime_error);
  EXPECT_TRUE(recorder.calls().empty());
}

TEST(Capture, WhatItWrapsAnswersForIt) {
  int ran = 0;
  const auto inner = fake("inner", 1, 30);
  inner->kernel = [&ran] { ++ran; };
  const Capture capture(inner, {});
  capture.prepared(plain_call(20))();
  EXPECT_EQ(ran, 1);
  Problem p;
  p.kv_len = 40;
  EXPECT_EQ(capture.unsupported(p), "40 keys are above 30");
  Recorder recorder;
  capture.run(plain_call(20), recorder);
  EXPECT_EQ(recorder.served().at("inner").calls, 1) << "no sink is nothing to capture";
}

TEST(Ranges, TextThereAndBack) {
  for (const char* text : {"3", "0-4", "0+3-5+last", "last", "2-last"})
    EXPECT_EQ(text_of(ranges_from(text)), text);
  for (const char* text : {"", "+", "3-", "-1", "4-3", "last-3", "1,2", "0++2", "x", "99999999999"})
    EXPECT_TRUE(ranges_from(text).empty()) << text;
  EXPECT_TRUE(holds(ranges_from("2-last"), 9, 10));
  EXPECT_FALSE(holds(ranges_from("last"), 8, 10));
}

}  // namespace
}  // namespace sagelab::attention::test
