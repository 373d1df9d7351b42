// SPDX-License-Identifier: Apache-2.0
#include "attention/switching/switching.h"

#include <gmock/gmock.h>

#include "attention/error.h"
#include "attention/registry.h"
#include "tests/attention/wrap/fake.h"

namespace sagelab::attention::test {
namespace {

using ::testing::ElementsAre;
using Texts = std::vector<std::string>;

// A run of steps of three calls each, every second one joint; what served is written down.
struct Steps {
  explicit Steps(bool per_call, const Texts& planned = {})
      : switching(selector, planned_switches(planned, per_call), per_call) {}
  void step(int i) {
    switching.begin(i);
    const JointCase joint((JointShape()));
    for (int call = 0; call < 3; ++call) {
      if (call == set_before_call && i == set_in_step) selector->set(fake("live"));
      if (call % 2) {
        JointCall asked = joint.call();
        asked.site = site(i, call);
        switching.run_joint(asked, recorder);
      } else {
        Call asked = plain_call(4);
        asked.site = site(i, call);
        switching.run(asked, recorder);
      }
      served[size_t(i)] += recorder.last_served().substr(0, 1);
    }
  }
  void steps(int from, int end) {
    for (int i = from; i < end; ++i) step(i);
  }
  Texts taken() const {
    Texts texts;
    for (const Switch& s : switching.switches()) texts.push_back(s.from + " " + s.at());
    return texts;
  }

  std::shared_ptr<Selector> selector = std::make_shared<Selector>(fake("first"));
  Switching switching;
  Recorder recorder;
  Texts served = Texts(4);  // of each step, the letters that its calls' backends begin with
  int set_in_step = -1, set_before_call = -1;
};

TEST(Switching, WaitsForTheNextStep) {
  Steps run(false);
  run.set_in_step = 1, run.set_before_call = 1;
  run.steps(0, 4);
  EXPECT_THAT(run.served, ElementsAre("fff", "fff", "lll", "lll"));
  EXPECT_THAT(run.taken(), ElementsAre("first 2=live"));
  const Switch& s = run.switching.switches().at(0);
  EXPECT_EQ(s.site.layer, 0);
  EXPECT_EQ(s.call, 0);
}

TEST(Switching, PerCallItTakesTheNextCallAndNotesIt) {
  Steps run(true);
  run.set_in_step = 1, run.set_before_call = 2;
  run.steps(0, 3);
  EXPECT_THAT(run.served, ElementsAre("fff", "ffl", "lll", ""));
  EXPECT_THAT(run.taken(), ElementsAre("first 1.2=live"));
  EXPECT_EQ(run.switching.switches().at(0).site.layer, 2);
}

TEST(Switching, PlannedOnesAreSetAsLiveOnesAre) {
  Steps run(true, {"2.1=sdpa(math)", "1=reference", "3=sdpa(math)"});
  run.set_in_step = 2, run.set_before_call = 0;
  run.steps(0, 4);
  EXPECT_THAT(run.served, ElementsAre("fff", "rrr", "lss", "sss"));
  EXPECT_THAT(run.taken(), ElementsAre("first 1=reference", "reference 2=live", "live 2.1=sdpa(math)"))
      << "the last one changed nothing";
}

TEST(Switching, WhatWasTakenMakesTheSameRunAgain) {
  Steps live(true, {"1.1=reference"});
  live.steps(0, 2);
  live.selector->set(make_backend("sdpa(math)"));
  live.steps(2, 4);
  Texts plan;
  for (const Switch& s : live.switching.switches()) plan.push_back(s.at());
  EXPECT_THAT(plan, ElementsAre("1.1=reference", "2=sdpa(math)"));
  Steps again(true, plan);
  again.steps(0, 4);
  EXPECT_EQ(again.served, live.served);
  EXPECT_EQ(again.taken(), live.taken());
}

TEST(Switching, WhatIsSetBeforeTheFirstCallIsASwitch) {
  Steps run(false);
  run.selector->set(fake("other"));
  run.step(0);
  EXPECT_THAT(run.taken(), ElementsAre("first 0=other"));
}

// As after a checkpoint: the steps before it were made by another process.
TEST(Switching, ARunThatGoesOnKnowsWhatWasServedBefore) {
  Steps run(true, {"0.2=sdpa(math)", "1=reference", "3=sdpa(math)"});
  run.steps(2, 4);
  EXPECT_THAT(run.served, ElementsAre("", "", "rrr", "sss"));
  EXPECT_THAT(run.taken(),
              ElementsAre("first 0.2=sdpa(math)", "sdpa(math) 1=reference", "reference 3=sdpa(math)"));
  Steps set(false, {"1=reference"});
  set.selector->set(fake("live"));
  set.steps(2, 3);
  EXPECT_EQ(set.served[2], "lll") << "what is set now counts more than what was";
  EXPECT_THAT(set.taken(), ElementsAre("first 1=reference", "reference 2=live"));
}

TEST(Switching, NameIsOfWhatServesNext) {
  Steps forward(false), call(true);
  for (Steps* run : {&forward, &call}) {
    run->step(0);
    run->selector->set(fake("live"));
  }
  EXPECT_EQ(forward.switching.name(), "first");
  EXPECT_EQ(call.switching.name(), "live");
}

std::string refused(const std::function<void()>& what) {
  try {
    what();
  } catch (const Error& e) {
    return std::string(e.what()) + " | " + e.hint();
  }
  return "accepted";
}

TEST(PlannedSwitches, AreReadInTheOrderOfTheirSteps) {
  const auto planned = planned_switches(Texts{"10=sdpa", "3.2=timed(sdpa(math))", "3=reference"}, true);
  Texts read;
  for (const auto& p : planned) read.push_back(fmt::format("{} {} {}", p.step, p.call, p.backend->name()));
  EXPECT_THAT(read, ElementsAre("3 0 reference", "3 2 timed(sdpa(math))", "10 0 sdpa"));
}

TEST(PlannedSwitches, MalformedOnesAreRefused) {
  const auto planned = [](Texts texts, bool per_call) {
    return refused([&] { planned_switches(texts, per_call); });
  };
  for (const char* text :
       {"", "sdpa", "=sdpa", "x=sdpa", "-1=sdpa", "1.=sdpa", ".1=sdpa", "1.2.3=sdpa", "1 =sdpa"})
    EXPECT_EQ(planned({text}, true),
              fmt::format("'{}' is no switch of attention | write a step, counted from 0, and "
                          "a backend: 10=sage2",
                          text));
  EXPECT_THAT(planned({"1="}, true), ::testing::StartsWith("attention '': expected a backend's name"));
  EXPECT_THAT(planned({"1=x"}, true), ::testing::StartsWith("attention 'x': there is no backend 'x'"));
  EXPECT_EQ(
      planned({"1.2=sdpa"}, false),
      "'1.2=sdpa' switches at a call within step 1, and switching waits for the next forward | allow it with "
      "--attention-switch call, or name a step alone");
  EXPECT_EQ(planned({"1.2=sdpa", "1.2=sdpa"}, true),
            "attention switches twice at 1.2: to sdpa and to sdpa | leave one of them out");
}

TEST(PlannedSwitches, BeyondTheRunTheyAreRefused) {
  const auto planned = planned_switches(Texts{"3.2=sdpa"}, true);
  EXPECT_EQ(refused([&] { require_within(planned, 4, 3); }), "accepted");
  EXPECT_EQ(refused([&] { require_within(planned, 3, 3); }),
            "attention cannot switch at 3.2=sdpa: the run has steps 0 to 2 | ");
  EXPECT_EQ(refused([&] { require_within(planned, 4, 2); }),
            "attention cannot switch at 3.2=sdpa: a step has calls 0 to 1 | ");
}

}  // namespace
}  // namespace sagelab::attention::test
