// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <fstream>

#include "tests/ui/program/fixture.h"

namespace sagelab::gui {
namespace {

using Status = ui::Job::Status;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace act_on = ui::action;

class Queue : public ProgramTest {
 protected:
  // Steps wait until they are let go.
  void hold_steps() {
    hooks->step = [this](int) {
      ++steps_begun;
      while (held) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    };
  }
  std::vector<uint64_t> seeds() {
    std::vector<uint64_t> all;
    for (const auto& job : state().jobs) all.push_back(job.request.seed);
    return all;
  }
  void generate(uint64_t seed) {
    auto request = state().request;
    request.seed = seed;
    act(act_on::Edit{request});
    until([&] { return !state().estimate.pending; });
    act(act_on::Generate{});
  }
  void TearDown() override {
    held = false;
    ProgramTest::TearDown();
  }
  std::atomic<bool> held = true;
  std::atomic<int> steps_begun = 0;
};

TEST_F(Queue, AJobBecomesAResult) {
  choose();
  act(act_on::Generate{});
  ASSERT_EQ(state().jobs.size(), 1u);
  EXPECT_EQ(state().compared[0], state().jobs[0].id) << "what one asks for is what one sees";
  until_idle();
  ASSERT_EQ(state().results.size(), 1u);
  EXPECT_EQ(state().results[0].id, state().jobs[0].id);
  EXPECT_EQ(state().results[0].frames.picture->frames, 2);
  EXPECT_EQ(state().jobs[0].step_times.size(), 3u);
  EXPECT_TRUE(state().dialogs.empty());
}

TEST_F(Queue, WithoutAPromptNothingStarts) {
  choose();
  auto request = state().request;
  request.prompt.clear();
  act(act_on::Edit{request});
  act(act_on::Generate{});
  EXPECT_TRUE(state().jobs.empty());
  ASSERT_EQ(state().dialogs.size(), 1u);
  EXPECT_THAT(state().dialogs[0].what, HasSubstr("prompt"));
  act(act_on::DismissDialog{});
  EXPECT_TRUE(state().dialogs.empty());
}

TEST_F(Queue, WhatCannotRunIsSaidBefore) {
  choose();
  auto request = state().request;
  request.width = 20;
  act(act_on::Edit{request});
  until([&] { return !state().estimate.pending; });
  EXPECT_THAT(state().estimate.error, HasSubstr("multiple of 8"));
  act(act_on::Generate{});
  EXPECT_TRUE(state().jobs.empty());
  act(act_on::FitSize{});
  until([&] { return state().request.width == 16 && !state().estimate.pending; });
  EXPECT_EQ(state().estimate.error, "");
}

TEST_F(Queue, OnlyWhatAnotherSizeMendsIsOfferedOne) {
  family.resolve = [known = family.resolve](const Request& request) {
    if (request.steps == 2000) throw Error("too many steps", "take less");
    return known(request);
  };
  choose();
  const auto mended = [&](const std::string& model, int width, int steps) {
    auto request = state().request;
    request.model = model, request.width = width, request.steps = steps;
    act(act_on::Edit{request});
    until([&] { return !state().estimate.pending; });
    return state().estimate.other_size;
  };
  EXPECT_TRUE(mended("fake", 20, 3));
  EXPECT_FALSE(mended("fake", 16, 3)) << "nothing is wrong";
  EXPECT_FALSE(mended("fake", 16, 2000)) << "its size is one that the model can make";
  EXPECT_NE(state().estimate.error, "");
  EXPECT_FALSE(mended("fake", 20, 2000)) << "the steps would still be too many";
  EXPECT_FALSE(mended("missing", 20, 3));
}

TEST_F(Queue, CancelStopsWithinAStepAndTheNextStarts) {
  choose(50);
  hold_steps();
  generate(1);
  generate(2);
  until([&] { return steps_begun == 1; });
  act(act_on::Cancel{state().jobs[0].id});
  EXPECT_TRUE(state().jobs[0].cancelling);
  held = false;
  until([&] { return state().jobs[0].status == Status::Cancelled; });
  EXPECT_LE(state().jobs[0].step_times.size(), 1u);
  until_idle();
  EXPECT_EQ(state().jobs[1].status, Status::Done);
  EXPECT_TRUE(state().dialogs.empty()) << "to cancel is no failure";
}

TEST_F(Queue, WaitingJobsAreMovedCancelledAndRemoved) {
  choose();
  hold_steps();
  for (const uint64_t seed : {1, 2, 3, 4}) generate(seed);
  until([&] { return steps_begun == 1; });
  const auto id_of = [&](uint64_t seed) {
    for (const auto& job : state().jobs)
      if (job.request.seed == seed) return job.id;
    return ui::Id(0);
  };
  act(act_on::Move{id_of(4), -1});
  EXPECT_THAT(seeds(), ElementsAre(1, 2, 4, 3));
  act(act_on::Move{id_of(4), -5});
  EXPECT_THAT(seeds(), ElementsAre(1, 4, 2, 3)) << "not before the one that runs";
  act(act_on::Move{id_of(4), 1});
  EXPECT_THAT(seeds(), ElementsAre(1, 2, 4, 3));
  act(act_on::Move{id_of(1), 1});
  EXPECT_THAT(seeds(), ElementsAre(1, 2, 4, 3)) << "what runs stays";
  act(act_on::Cancel{id_of(2)});
  act(act_on::Remove{id_of(2)});
  act(act_on::Remove{id_of(1)});
  EXPECT_THAT(seeds(), ElementsAre(1, 4, 3)) << "what runs cannot be removed";
  held = false;
  until_idle();
  EXPECT_EQ(state().results.size(), 3u);
  EXPECT_EQ(state().results[1].frames.request.seed, 4u);
  act(act_on::Remove{id_of(4)});
  EXPECT_EQ(state().results.size(), 2u);
}

TEST_F(Queue, AFailedJobIsSaidAndRetried) {
  choose();
  hooks->step = [](int) { throw Error("no room", "take less"); };
  act(act_on::Generate{});
  until_idle();
  EXPECT_EQ(state().jobs[0].status, Status::Failed);
  ASSERT_EQ(state().dialogs.size(), 1u);
  EXPECT_EQ(state().dialogs[0].what, "no room");
  EXPECT_EQ(state().dialogs[0].hint, "take less");
  hooks->step = [](int) {};
  act(act_on::Retry{state().jobs[0].id});
  until_idle();
  ASSERT_EQ(state().jobs.size(), 1u);
  EXPECT_EQ(state().jobs[0].status, Status::Done);
}

TEST_F(Queue, PausedNothingStarts) {
  choose();
  act(act_on::Pause{true});
  act(act_on::Generate{});
  for (int i = 0; i < 20; ++i) program->update();
  EXPECT_EQ(state().jobs[0].status, Status::Waiting);
  act(act_on::Pause{false});
  until_idle();
  EXPECT_EQ(state().jobs[0].status, Status::Done);
}

TEST_F(Queue, ASwitchTakesEffectAtTheNextForward) {
  choose(4);
  hold_steps();
  act(act_on::Generate{});
  until([&] { return steps_begun == 1; });
  act(act_on::SetAttention{"sage2"});
  EXPECT_EQ(state().running()->attention, "sage2");
  EXPECT_EQ(state().request.attention, "sdpa") << "the next run is another matter";
  held = false;
  until_idle();
  const auto& job = state().jobs[0];
  ASSERT_EQ(job.switches.size(), 1u);
  EXPECT_EQ(job.switches[0].to, "sage2");
  EXPECT_LE(job.switches[0].step, 1);
  EXPECT_THAT(state().results[0].title, HasSubstr("sdpa -> sage2"));
  EXPECT_TRUE(state().results[0].emulated);
}

TEST_F(Queue, OnlyARunOfOneBackendTellsHowLongTheNextTakes) {
  family.plan = [](const Request&) {
    Plan plan;
    plan.flops_per_forward = 1e6, plan.forwards = 4;
    return plan;
  };
  choose(4);
  hold_steps();
  act(act_on::Generate{});
  until([&] { return steps_begun == 1; });
  act(act_on::SetAttention{"reference"});
  held = false;
  until_idle();
  until([&] { return !state().estimate.pending; });
  ASSERT_EQ(state().jobs[0].switches.size(), 1u);
  EXPECT_TRUE(state().estimate.rough) << "it was switched";
  act(act_on::Generate{});
  until_idle();
  until([&] { return !state().estimate.pending; });
  EXPECT_FALSE(state().estimate.rough);
  EXPECT_FALSE(std::isnan(state().jobs[0].expected)) << "by the machine's speed";
}

TEST_F(Queue, ABadSpecWhileItRunsChangesNothing) {
  choose();
  hold_steps();
  act(act_on::Generate{});
  until([&] { return steps_begun == 1; });
  act(act_on::SetAttention{"sage3"});
  ASSERT_EQ(state().dialogs.size(), 1u);
  EXPECT_THAT(state().dialogs[0].what, HasSubstr("sage3"));
  EXPECT_EQ(state().running()->attention, "sdpa");
  held = false;
  until_idle();
  EXPECT_EQ(state().jobs[0].status, Status::Done);
}

TEST_F(Queue, BothFromTheSameNoiseAndTheFirstTwice) {
  choose();
  act(act_on::GenerateBoth{{"sdpa", "sage2"}});
  ASSERT_EQ(state().jobs.size(), 3u);
  const auto a = state().jobs[0].id, b = state().jobs[2].id;
  EXPECT_THAT(state().compared, ElementsAre(a, b, 0));
  EXPECT_EQ(state().jobs[1].repeats, a);
  until_idle();
  until([&] { return state().floor(a) && !state().floor(a)->pending; });
  EXPECT_EQ(state().floor(a)->identical_frames, 2);
  act(act_on::Measure{b, a});
  until([&] { return !state().quality(b, a)->pending; });
  EXPECT_EQ(state().quality(b, a)->psnr.size(), 2u);
}

TEST_F(Queue, ABadFolderIsAModelWithAProblem) {
  choose();
  act(act_on::AddModelFolder{"/missing/model/"});
  until([&] { return state().request.model == "/missing/model"; });
  ASSERT_TRUE(state().model());
  EXPECT_THAT(state().model()->problem, HasSubstr("no folder"));
  EXPECT_EQ(state().model()->hint, "look again");
  act(act_on::Generate{});
  EXPECT_TRUE(state().jobs.empty());
  act(act_on::ForgetModel{"/missing/model"});
  EXPECT_EQ(state().request.model, "fake");
}

TEST_F(Queue, APromptFileIsAJobForEachPrompt) {
  choose();
  const auto file = folder / "prompts.txt";
  std::ofstream(file) << "a cat\na dog {\"seed\": 9}\n\n";
  act(act_on::Pause{true});
  act(act_on::ImportPrompts{file.string()});
  until([&] { return state().tasks.empty(); });
  ASSERT_EQ(state().jobs.size(), 2u);
  EXPECT_EQ(state().jobs[0].request.prompt, "a cat");
  EXPECT_EQ(state().jobs[1].request.seed, 9u);
  EXPECT_TRUE(state().dialogs.empty());
  act(act_on::ImportPrompts{(folder / "none.txt").string()});
  until([&] { return state().tasks.empty(); });
  EXPECT_EQ(state().dialogs.size(), 1u);
}

TEST_F(Queue, LinesOfAPromptFileThatAreLeftOutAreSaid) {
  choose();
  const auto file = folder / "prompts.jsonl";
  act(act_on::Pause{true});
  const auto import = [&](const std::string& lines) {
    std::ofstream(file) << lines;
    act(act_on::ImportPrompts{file.string()});
    until([&] { return state().tasks.empty(); });
  };
  import("{\"prompt\": \"a cat\"}\n\n{\"prompt\": \"a dog\", \"width\": 20}\n");
  ASSERT_EQ(state().jobs.size(), 1u);
  EXPECT_EQ(state().jobs[0].request.prompt, "a cat");
  ASSERT_EQ(state().dialogs.size(), 1u);
  EXPECT_THAT(state().dialogs[0].what, HasSubstr("1 of 2 lines was left out"));
  EXPECT_EQ(state().dialogs[0].hint, "line 3: width is not a multiple of 8");
  act(act_on::DismissDialog{});

  std::string bad;
  for (int i = 0; i < 7; ++i) bad += "no request\n";
  import("{\"prompt\": \"a cat\"}\n" + bad);
  EXPECT_EQ(state().jobs.size(), 2u);
  ASSERT_EQ(state().dialogs.size(), 1u);
  EXPECT_THAT(state().dialogs[0].what, HasSubstr("7 of 8 lines were left out"));
  EXPECT_THAT(state().dialogs[0].hint, HasSubstr("line 6: "));
  EXPECT_THAT(state().dialogs[0].hint, ::testing::EndsWith("\nand 2 more"));
  act(act_on::DismissDialog{});

  import(bad);
  EXPECT_EQ(state().jobs.size(), 2u);
  ASSERT_EQ(state().dialogs.size(), 1u) << "nothing of it can be made";
  EXPECT_THAT(state().dialogs[0].what, HasSubstr("line 1: "));
}

TEST_F(Queue, NoticesOfAPromptFileAreInTheLog) {
  choose();
  act(act_on::Pause{true});
  const auto file = folder / "prompts.txt";
  std::ofstream(file) << "a cat {\"width\": 20}\n";
  act(act_on::ImportPrompts{file.string()});
  until([&] { return state().tasks.empty(); });
  EXPECT_THAT(state().log, ElementsAre("line 1: 20x16, 2 frames is moved to 16x16, 2 frames"));
  std::ofstream(folder / "prompts.csv") << "text,mood\na cat,sad\n";
  act(act_on::ImportPrompts{(folder / "prompts.csv").string()});
  until([&] { return state().tasks.empty(); });
  ASSERT_EQ(state().log.size(), 2u);
  EXPECT_THAT(state().log[1], HasSubstr("mood"));
  EXPECT_EQ(state().jobs.size(), 2u);
  EXPECT_TRUE(state().dialogs.empty());
}

}  // namespace
}  // namespace sagelab::gui
