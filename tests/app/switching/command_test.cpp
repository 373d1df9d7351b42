// SPDX-License-Identifier: Apache-2.0
// Switches that a command line plans, in the real binary.
#include <gmock/gmock.h>

#include "app/failure.h"
#include "tests/app/cli/end_to_end.h"
#include "tests/support/parity.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

class AttentionAt : public EndToEnd {
 protected:
  struct Made {
    json report;
    std::string out;
    at::Tensor latents;
  };
  Made make(const std::string& name, std::vector<std::string> more) const {
    more.insert(more.end(), {"--output", at(name + "/"), "--report", at(name + ".json"), "--latents",
                             at(name + ".safetensors")});
    const auto result = run_sagelab(generate(more));
    EXPECT_EQ(result.exit_code, kDone) << result.err;
    return {json::parse(read_file(at(name + ".json"))), result.out,
            Dump(at(name + ".safetensors"))["latents"]};
  }
  void refused(std::vector<std::string> more, const std::string& message) const {
    more.insert(more.end(), {"--output", at("x/")});
    const auto result = run_sagelab(generate(more));
    EXPECT_EQ(result.exit_code, kUsage);
    EXPECT_EQ(result.err, "sagelab: " + message + "\n");
    EXPECT_EQ(folder_.names(), std::set<std::string>{});
  }
};

// (steps, layers, backend) of each span.
json spans_of(const json& report) {
  json all = json::array();
  for (const auto& span : report.at("attention").at("spans"))
    all.push_back({span.at("steps"), span.at("layers"), span.at("backend")});
  return all;
}

json seconds_taken_from(json switches) {
  for (auto& s : switches) {
    s.erase("seconds_before");
    s.erase("seconds_after");
  }
  return switches;
}

TEST_F(AttentionAt, SwitchesFromThatStepOn) {
  const auto switched = make("a", {"--attention", "sdpa(math)", "--attention-at", "2=reference"});
  EXPECT_EQ(seconds_taken_from(switched.report.at("switches")), json::array({{{"step", 2},
                                                                              {"call", 0},
                                                                              {"layer", 0},
                                                                              {"branch", "both"},
                                                                              {"block", "block"},
                                                                              {"from", "sdpa(math)"},
                                                                              {"to", "reference"},
                                                                              {"at", "2=reference"}}}));
  const auto seconds = [&](int i) { return switched.report.at("steps")[i].at("seconds").get<double>(); };
  const auto& s = switched.report.at("switches")[0];
  EXPECT_DOUBLE_EQ(s.at("seconds_before").get<double>(), (seconds(0) + seconds(1)) / 2);
  EXPECT_DOUBLE_EQ(s.at("seconds_after").get<double>(), (seconds(2) + seconds(3)) / 2);
  EXPECT_EQ(spans_of(switched.report),
            json::array({{{0, 1}, {0, 2}, "sdpa(math)"}, {{2, 3}, {0, 2}, "reference"}}));
  EXPECT_THAT(switched.out, MatchesRegex(".*/a: 9 frames of 80x64, [0-9.]+ s\n"
                                         "sdpa.math. [0-9.]+ s a step, from step 2 reference [0-9.]+ s a "
                                         "step\n"));
  EXPECT_EQ(switched.report.at("request").at("attention_at"), json::array({"2=reference"}));

  const auto scheduled = make("b", {"--attention", "schedule(steps=0-1:sdpa(math),else:reference)"});
  EXPECT_TRUE(at::equal(switched.latents, scheduled.latents)) << "bit by bit what the same schedule makes";
  EXPECT_EQ(scheduled.report.at("switches"), json::array());
  EXPECT_FALSE(at::equal(switched.latents, make("c", {"--attention", "sdpa(math)"}).latents));
}

TEST_F(AttentionAt, ACallInsideAStepIsAPlaceToo) {
  const auto made = make("a", {"--attention", "sdpa(math)", "--attention-switch", "call", "--attention-at",
                               "3=sdpa(math)", "--attention-at", "1.2=reference"});
  EXPECT_EQ(spans_of(made.report), json::array({{{0, 0}, {0, 2}, "sdpa(math)"},
                                                {{1, 1}, {0, 1}, "sdpa(math)"},
                                                {{1, 1}, {2, 2}, "reference"},
                                                {{2, 2}, {0, 2}, "reference"},
                                                {{3, 3}, {0, 2}, "sdpa(math)"}}));
  const auto& switches = made.report.at("switches");
  ASSERT_EQ(switches.size(), 2u);
  EXPECT_EQ(switches[0].at("at"), "1.2=reference");
  EXPECT_EQ(switches[0].at("layer"), 2);
  EXPECT_EQ(switches[0].at("seconds_before"), made.report.at("steps")[0].at("seconds"));
  EXPECT_EQ(switches[0].at("seconds_after"), made.report.at("steps")[2].at("seconds"));
  EXPECT_EQ(switches[1].at("at"), "3=sdpa(math)");
  EXPECT_EQ(made.report.at("steps")[1].at("backend"), "sdpa(math) -> reference");
}

TEST_F(AttentionAt, AScheduleByStepAndLayerIsInTheSpans) {
  const auto made =
      make("a", {"--attention",
                 "schedule(steps=0:sdpa(math),layers=1:reference,steps=last:sdpa(math),else:sdpa(flash))"});
  EXPECT_EQ(spans_of(made.report), json::array({{{0, 0}, {0, 2}, "sdpa(math)"},
                                                {{1, 2}, {0, 0}, "sdpa(flash)"},
                                                {{1, 2}, {1, 1}, "reference"},
                                                {{1, 2}, {2, 2}, "sdpa(flash)"},
                                                {{3, 3}, {0, 0}, "sdpa(math)"},
                                                {{3, 3}, {1, 1}, "reference"},
                                                {{3, 3}, {2, 2}, "sdpa(math)"}}));
  EXPECT_EQ(made.report.at("steps")[1].at("served"), json::array({"reference", "sdpa(flash)"}));
  EXPECT_EQ(made.report.at("attention").at("served").at("reference").at("calls"), 3);
}

TEST_F(AttentionAt, BadSwitchesAreRefusedBeforeLoading) {
  refused({"--attention-at", "4=sdpa"}, "attention cannot switch at 4=sdpa: the run has steps 0 to 3");
  const std::string hint = "; write a step, counted from 0, and a backend: 10=sage2";
  for (const std::string text :
       {"sdpa", "=sdpa", "-1=sdpa", "1.=sdpa", "1.x=sdpa", "2 =sdpa", "99999999999=sdpa"})
    refused({"--attention-at=" + text}, "'" + text + "' is no switch of attention" + hint);
  refused(
      {"--attention-at", "1=spda"},
      "attention 'spda': there is no backend 'spda' at position 1; there are sdpa, sage2, reference, prefer, "
      "check, timed, schedule");
  refused({"--attention-at", "1=sdpa", "--attention-at", "1=reference"},
          "attention switches twice at 1: to sdpa and to reference; leave one of them out");
  refused(
      {"--attention-at", "1.2=sdpa"},
      "'1.2=sdpa' switches at a call within step 1, and switching waits for the next forward; allow it with "
      "--attention-switch call, or name a step alone");
  refused({"--attention-switch", "call", "--attention-at", "1.3=sdpa"},
          "attention cannot switch at 1.3=sdpa: a step has calls 0 to 2");
}

TEST_F(AttentionAt, WhatTheMachineCannotRunIsRefusedBeforeLoading) {
  const auto result = run_sagelab(generate({"--attention-at", "1=sdpa(cudnn)", "--output", at("x/")}));
  EXPECT_EQ(result.exit_code, kFailed);
  EXPECT_THAT(result.err, HasSubstr("sdpa(cudnn)"));
  EXPECT_EQ(result.err.find("load"), std::string::npos) << result.err;
  EXPECT_EQ(folder_.names(), std::set<std::string>{});
}

TEST_F(AttentionAt, ADryRunNamesThem) {
  const std::vector<std::string> flags{"--attention-at", "1=reference",        "--attention-at",
                                       "3.1=sdpa",       "--dry-run",          "--output",
                                       at("x/"),         "--attention-switch", "call"};
  const auto table = run_sagelab(generate(flags));
  ASSERT_EQ(table.exit_code, kDone) << table.err;
  EXPECT_THAT(table.out, HasSubstr("\nswitch      attention reference from step 1 on\n"
                                   "switch      attention sdpa from call 1 of step 3 on\n"));
  auto as_json = flags;
  as_json.push_back("--json");
  EXPECT_EQ(json::parse(run_sagelab(generate(as_json)).out).at("request").at("attention_at"),
            json::array({"1=reference", "3.1=sdpa"}));
}

}  // namespace
}  // namespace sagelab
