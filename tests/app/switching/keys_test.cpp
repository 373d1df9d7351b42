// SPDX-License-Identifier: Apache-2.0
// Somebody at a terminal, with the real binary.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "app/failure.h"
#include "app/terminal/switch_keys.h"
#include "tests/app/cli/end_to_end.h"
#include "tests/app/switching/terminal.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using ::testing::HasSubstr;
using ::testing::Not;

class SwitchKeysTest : public EndToEnd {
 protected:
  void SetUp() override {
    if (!Terminal::is_there()) GTEST_SKIP() << "no pseudo terminal here; is /dev/pts mounted?";
  }
  std::vector<std::string> run(const std::string& steps) const {
    return generate(
        {"--attention", "sdpa(math)", "--steps", steps, "--output", at("f/"), "--report", at("r.json")});
  }
  static bool ended_with(const Terminal::End& end, int exit_code) {
    return WIFEXITED(end.status) && WEXITSTATUS(end.status) == exit_code;
  }
};

constexpr const char* kLegend =
    "keys: 1 sdpa(math) (runs)  2 sdpa  3 sage2  4 sage2(qk=int4)  5 sdpa(flash)\r\n";

TEST_F(SwitchKeysTest, AKeySwitchesWhileItRuns) {
  Terminal terminal(run("60"));
  ASSERT_TRUE(terminal.shows(kLegend)) << terminal.text();
  ASSERT_TRUE(terminal.shows("denoise 2/60")) << terminal.text();
  EXPECT_TRUE(terminal.raw());
  terminal.press("x9\n5");  // what is no key of ours does nothing
  EXPECT_TRUE(terminal.shows("sdpa(flash) from the next step on\r\n")) << terminal.text();
  EXPECT_TRUE(
      terminal.shows("keys: 1 sdpa(math)  2 sdpa  3 sage2  4 sage2(qk=int4)  5 sdpa(flash) (runs)\r\n"))
      << terminal.text();
  const auto end = terminal.wait();
  EXPECT_TRUE(ended_with(end, kDone)) << terminal.text();
  EXPECT_TRUE(terminal.as_at_first(end.terminal));

  const auto report = json::parse(read_file(at("r.json")));
  ASSERT_EQ(report.at("switches").size(), 1u) << report.at("switches").dump();
  const auto& s = report.at("switches")[0];
  EXPECT_EQ(s.at("from"), "sdpa(math)");
  EXPECT_EQ(s.at("to"), "sdpa(flash)");
  EXPECT_EQ(s.at("call"), 0);
  const int step = s.at("step").get<int>();
  EXPECT_GE(step, 2);
  for (int i = 0; i < 60; ++i)
    EXPECT_EQ(report.at("steps")[i].at("served"), json::array({i < step ? "sdpa(math)" : "sdpa(flash)"}))
        << i;
  EXPECT_THAT(terminal.text(), HasSubstr(fmt::format("s a step, from step {} sdpa(flash) ", step)));
}

TEST_F(SwitchKeysTest, CtrlCEndsTheRunAndGivesTheTerminalBack) {
  Terminal terminal(run("1000"));
  ASSERT_TRUE(terminal.shows("denoise 2/1000")) << terminal.text();
  EXPECT_TRUE(terminal.raw());
  terminal.press("\x03");
  const auto end = terminal.wait();
  EXPECT_TRUE(ended_with(end, kInterrupted)) << terminal.text();
  EXPECT_THAT(terminal.text(), HasSubstr("sagelab: cancelled"));
  EXPECT_TRUE(terminal.as_at_first(end.terminal));
  EXPECT_EQ(folder_.names(), std::set<std::string>{});
}

TEST_F(SwitchKeysTest, WhatKillsTheRunGivesTheTerminalBackFirst) {
  for (const int signal : {SIGTERM, SIGHUP, SIGQUIT}) {
    Terminal terminal(run("1000"));
    ASSERT_TRUE(terminal.shows("denoise 2/1000")) << terminal.text();
    EXPECT_TRUE(terminal.raw());
    terminal.send(signal);
    const auto end = terminal.wait();
    EXPECT_TRUE(WIFSIGNALED(end.status));
    EXPECT_EQ(WTERMSIG(end.status), signal);
    EXPECT_TRUE(terminal.as_at_first(end.terminal)) << signal;
  }
}

// The second kills where the run has not ended by then, as it does without keys.
TEST_F(SwitchKeysTest, TwoCtrlCsAtOnceLeaveTheTerminalAsItWas) {
  Terminal terminal(run("1000"));
  ASSERT_TRUE(terminal.shows("denoise 2/1000")) << terminal.text();
  terminal.press("\x03\x03");
  const auto end = terminal.wait();
  EXPECT_TRUE(ended_with(end, kInterrupted) || (WIFSIGNALED(end.status) && WTERMSIG(end.status) == SIGINT));
  EXPECT_TRUE(terminal.as_at_first(end.terminal));
}

TEST_F(SwitchKeysTest, CtrlZGivesTheTerminalBackAndForegroundTakesItAgain) {
  Terminal terminal(run("1000"));
  ASSERT_TRUE(terminal.shows("denoise 2/1000")) << terminal.text();
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(terminal.becomes_raw());
    terminal.press("\x1a");
    const auto stop = terminal.stopped();
    ASSERT_TRUE(WIFSTOPPED(stop.status));
    EXPECT_EQ(WSTOPSIG(stop.status), SIGTSTP);
    EXPECT_TRUE(terminal.as_at_first(stop.terminal)) << round;
    terminal.foreground();
    EXPECT_TRUE(terminal.becomes_raw()) << round;
  }
  terminal.press("5");
  EXPECT_TRUE(terminal.shows("sdpa(flash) from the next step on\r\n")) << terminal.text();
  terminal.press("\x03");
  const auto end = terminal.wait();
  EXPECT_TRUE(ended_with(end, kInterrupted)) << terminal.text();
  EXPECT_TRUE(terminal.as_at_first(end.terminal));
}

// No handler of ours runs at SIGSTOP, and the shell sets the terminal for itself.
TEST_F(SwitchKeysTest, AfterAnyStopTheKeysWorkAgain) {
  Terminal terminal(run("1000"));
  ASSERT_TRUE(terminal.shows("denoise 2/1000")) << terminal.text();
  terminal.send(SIGSTOP);
  ASSERT_TRUE(WIFSTOPPED(terminal.stopped().status));
  ASSERT_FALSE(terminal.raw()) << "the shell's own";
  terminal.foreground();
  EXPECT_TRUE(terminal.becomes_raw());
  terminal.press("5");
  EXPECT_TRUE(terminal.shows("sdpa(flash) from the next step on\r\n")) << terminal.text();
  terminal.press("\x03");
  const auto end = terminal.wait();
  EXPECT_TRUE(ended_with(end, kInterrupted)) << terminal.text();
  EXPECT_TRUE(terminal.as_at_first(end.terminal));
}

TEST_F(SwitchKeysTest, InTheBackgroundItGoesOnAndLeavesTheTerminalAlone) {
  Terminal terminal(run("200"));
  ASSERT_TRUE(terminal.shows("denoise 2/200")) << terminal.text();
  terminal.press("\x1a");
  ASSERT_TRUE(WIFSTOPPED(terminal.stopped().status));
  terminal.background();
  for (int i = 0; i < 20; ++i) {
    ::usleep(10'000);
    ASSERT_TRUE(terminal.as_at_first(terminal.now()));
  }
  EXPECT_TRUE(terminal.shows("9 frames of 80x64")) << terminal.text();
  terminal.foreground();
  const auto end = terminal.wait();
  EXPECT_TRUE(ended_with(end, kDone)) << terminal.text();
  EXPECT_TRUE(terminal.as_at_first(end.terminal));
}

TEST_F(SwitchKeysTest, AFailureGivesTheTerminalBack) {
  auto arguments = run("60");
  const auto model = folder_ / "model";
  fs::copy(kFixture / "model", model, fs::copy_options::recursive);
  arguments.insert(arguments.end(), {"--model", model.string()});
  Terminal terminal(arguments);
  ASSERT_TRUE(terminal.shows("denoise 2/60")) << terminal.text();
  EXPECT_TRUE(terminal.raw());
  fs::remove_all(model / "vae");  // it is read when decoding begins
  const auto end = terminal.wait();
  EXPECT_TRUE(ended_with(end, kFailed)) << terminal.text();
  EXPECT_TRUE(terminal.as_at_first(end.terminal));
}

TEST_F(SwitchKeysTest, WithoutATerminalNothingChanges) {
  const auto result = run_sagelab(run("4"));
  EXPECT_EQ(result.exit_code, kDone);
  EXPECT_THAT(result.err, Not(HasSubstr("keys: ")));
  EXPECT_EQ(json::parse(read_file(at("r.json"))).at("switches"), json::array());
}

TEST_F(SwitchKeysTest, DecodingAloneHasNoKeys) {
  auto made = run("1");
  made.insert(made.end(), {"--latents", at("z.safetensors")});
  ASSERT_EQ(run_sagelab(made).exit_code, kDone);
  Terminal terminal({"generate", "--from-latents", at("z.safetensors"), "--output", at("g/")});
  const auto end = terminal.wait();
  EXPECT_TRUE(ended_with(end, kDone)) << terminal.text();
  EXPECT_THAT(terminal.text(), Not(HasSubstr("keys: ")));
}

TEST(SwitchChoices, AreWhatTheRunNamesAndWhatItsProblemsAllow) {
  Request r;
  r.attention = "timed(sdpa)";
  r.attention_at = {"3=sdpa(math)"};
  Plan plan;
  plan.problems = {{.batch = 1, .heads = 2, .kv_heads = 2, .q_len = 9, .kv_len = 9, .head_dim = 64}};
  EXPECT_EQ(switch_choices(r, plan), (std::vector<std::string>{"timed(sdpa)", "sdpa(math)", "sdpa", "sage2",
                                                               "sage2(qk=int4)", "sdpa(flash)"}))
      << "cuDNN does not run on a CPU";
  plan.problems.push_back(plan.problems[0]);
  plan.problems[1].head_dim = 136;
  const auto fewer = switch_choices(r, plan);
  EXPECT_THAT(fewer, Not(::testing::Contains("sage2"))) << "its head dimensions end at 128";
  EXPECT_THAT(fewer, ::testing::Contains("sdpa"));
  EXPECT_EQ(legend_of({"sdpa", "sage2"}, "sage2"), "keys: 1 sdpa  2 sage2 (runs)");
}

}  // namespace
}  // namespace sagelab
