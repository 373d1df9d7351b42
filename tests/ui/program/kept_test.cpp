// SPDX-License-Identifier: Apache-2.0
// What outlives the window: exports, and the state that the next start finds.
#include <atomic>
#include <fstream>

#include "tests/ui/program/fixture.h"

namespace sagelab::gui {
namespace {

using Status = ui::Job::Status;
using ::testing::HasSubstr;
namespace act_on = ui::action;
namespace fs = std::filesystem;

class Kept : public ProgramTest {};

TEST_F(Kept, ModelsRequestAndLookAreThereAtTheNextStart) {
  choose();
  act(act_on::SetLook{false, 1.5f});
  program->update();
  start();
  until([&] {
    return state().model() && state().model()->problem.empty() && !state().model()->family.empty();
  });
  EXPECT_EQ(state().request.prompt, "a test");
  EXPECT_EQ(state().request.steps, 3);
  EXPECT_FALSE(program->look().dark);
  EXPECT_EQ(program->look().scale, 1.5f);
}

class KeptPolicy : public Kept {
 protected:
  void SetUp() override {
    family.plan = [this](const Request& request) {
      Plan plan;
      plan.steps = *request.steps, plan.layers = layers;
      return plan;
    };
    Kept::SetUp();
  }
  void set_steps(int steps) {
    auto request = state().request;
    request.steps = steps;
    act(act_on::Edit{request});
    until([&] { return !state().estimate.pending; });
  }
  // The first range of steps is another's.
  ui::Policy paint() {
    auto painted = state().policy;
    painted.cells.at(0).assign(size_t(layers), "reference");
    act(act_on::SetPolicy{painted});
    return painted;
  }
  std::atomic<int> layers = 2;
};

TEST_F(KeptPolicy, OverOtherStepsWhatIsPaintedStays) {
  choose(30);
  const auto painted = paint();
  set_steps(1);
  EXPECT_EQ(state().policy.columns.size(), 1u);
  set_steps(12);
  EXPECT_EQ(state().policy.steps, 12);
  EXPECT_EQ(state().policy.columns, (std::vector<int>{0, 4, 8}));
  EXPECT_EQ(state().policy.cells, painted.cells);
  layers = 3;
  set_steps(12);
  EXPECT_EQ(state().policy.layers, 3);
  EXPECT_EQ(ui::spec_of(state().policy), "sdpa") << "other layers are another picture";
}

TEST_F(KeptPolicy, PaintedOverFewStepsItHasItsRangesAgainOverMany) {
  choose(1);
  paint();
  set_steps(30);
  EXPECT_EQ(state().policy.columns, (std::vector<int>{0, 10, 20}));
  EXPECT_EQ(ui::spec_of(state().policy), "reference");
}

TEST_F(KeptPolicy, IsThereAtTheNextStart) {
  choose(30);
  const auto painted = paint();
  set_steps(2);
  program->update();
  start();
  EXPECT_EQ(state().policy.cells, painted.cells);
  choose(30);
  EXPECT_EQ(state().policy.columns, painted.columns);
  EXPECT_EQ(state().policy.cells, painted.cells);
}

TEST_F(Kept, ResultsAreThereAtTheNextStart) {
  choose();
  act(act_on::Generate{});
  until_idle();
  const auto pixels = state().results[0].frames.picture->pixels;
  const auto id = state().results[0].id;
  start();
  until([&] { return !state().results.empty(); });
  EXPECT_EQ(state().results[0].id, id);
  EXPECT_EQ(state().results[0].frames.picture->pixels, pixels);
  ASSERT_EQ(state().jobs.size(), 1u);
  EXPECT_EQ(state().jobs[0].status, Status::Done);
  EXPECT_EQ(state().jobs[0].step_times.size(), 3u);
  choose();
  act(act_on::Generate{});
  EXPECT_GT(state().jobs.back().id, id);
  until_idle();
  act(act_on::Remove{id});
  program->wait_idle();
  start();
  until([&] { return state().results.size() == 1; });
  EXPECT_NE(state().results[0].id, id);
}

// As after a crash: the state's folder as it was while the run went on.
TEST_F(Kept, FinishedLatentsAreDecodedAfterACrash) {
  choose();
  std::atomic<bool> decoding = false, held = true;
  hooks->decode = [&] {
    decoding = true;
    while (held) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  act(act_on::Generate{});
  act(act_on::Generate{});
  until([&] { return decoding.load(); });
  program->wait_idle();
  fs::copy(folder / "state", folder / "crashed", fs::copy_options::recursive);
  held = false;
  until_idle();
  program.reset();

  std::atomic<int> steps = 0;
  hooks->step = [&](int) { ++steps; };
  start("crashed");
  ASSERT_EQ(state().jobs.size(), 2u);
  EXPECT_EQ(state().jobs[0].status, Status::Waiting);
  EXPECT_TRUE(state().paused) << "what brought the program down does not start on its own";
  EXPECT_NE(state().jobs[0].latents, "");
  EXPECT_EQ(state().jobs[1].latents, "");
  act(act_on::Pause{false});
  until([&] { return state().results.size() == 1; });
  EXPECT_EQ(steps, 0) << "only decoding was left";
  until_idle();
  EXPECT_EQ(steps, 3);
}

TEST_F(Kept, ADamagedStateIsPutAside) {
  program.reset();
  std::ofstream(folder / "state" / "state.json") << "{\"last_id\": ";
  start();
  EXPECT_TRUE(fs::exists(folder / "state" / "state.damaged.json"));
  ASSERT_FALSE(state().log.empty());
  EXPECT_THAT(state().log[0], HasSubstr("state.damaged.json"));

  program.reset();
  std::ofstream(folder / "state" / "state.json") << "{\"version\": 1}";
  start();
  ASSERT_EQ(state().dialogs.size(), 1u);
  choose();
}

TEST_F(Kept, ClosingWhileBusyAsks) {
  choose(40);
  hooks->step = [](int) { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
  act(act_on::Generate{});
  until([&] { return state().running() != nullptr; });
  act(act_on::Close{});
  act(act_on::Close{});
  ASSERT_EQ(state().dialogs.size(), 1u);
  EXPECT_EQ(state().dialogs[0].kind, ui::Dialog::Kind::CloseWhileBusy);
  EXPECT_THAT(state().dialogs[0].what, HasSubstr("A run is going on"));
  EXPECT_THAT(state().dialogs[0].hint, ::testing::Not(HasSubstr("lost")));
  act(act_on::KeepOpen{});
  EXPECT_TRUE(state().dialogs.empty());
  EXPECT_FALSE(state().closing);
  act(act_on::Close{});
  act(act_on::CloseAnyway{});
  until([&] { return program->finished(); });
  EXPECT_EQ(state().jobs[0].status, Status::Waiting);
  start();
  ASSERT_EQ(state().jobs.size(), 1u) << "it waits in the queue at the next start";
  EXPECT_EQ(state().jobs[0].status, Status::Waiting);
}

TEST_F(Kept, ClosingWhileFilesAreWrittenAsksOfThose) {
  choose();
  act(act_on::Generate{});
  until_idle();
  const auto png = [&](const char* name) {
    act(act_on::Export{act_on::Export::Kind::Png, {state().results[0].id}, 0, (folder / name).string()});
  };
  png("one.png");
  act(act_on::Close{});
  ASSERT_EQ(state().dialogs.size(), 1u);
  EXPECT_EQ(state().dialogs[0].kind, ui::Dialog::Kind::CloseWhileBusy);
  EXPECT_EQ(state().dialogs[0].what, "'writing " + (folder / "one.png").string() + "' is not finished.");
  EXPECT_THAT(state().dialogs[0].hint, ::testing::Not(HasSubstr("queue"))) << "nothing runs";
  act(act_on::KeepOpen{});
  png("two.png");
  act(act_on::Close{});
  ASSERT_EQ(state().dialogs.size(), 1u);
  EXPECT_THAT(state().dialogs[0].what, HasSubstr("nor is 1 more"));
  act(act_on::CloseAnyway{});
  EXPECT_TRUE(program->finished());
}

TEST_F(Kept, ClosingWhenIdleDoesNotAsk) {
  choose();
  act(act_on::Close{});
  EXPECT_TRUE(program->finished());
}

TEST_F(Kept, ExportsCarryTheirSettings) {
  choose();
  act(act_on::Generate{});
  until_idle();
  const auto id = state().results[0].id;
  const auto png = (folder / "one.png").string();
  using Kind = act_on::Export::Kind;
  act(act_on::Export{Kind::Png, {id}, 1, (folder / "one").string()});
  act(act_on::Export{Kind::Mp4, {id}, 0, (folder / "no" / "such" / "folder" / "a.mp4").string()});
  until_idle();
  EXPECT_TRUE(fs::exists(png));
  ASSERT_EQ(state().dialogs.size(), 1u) << "the second cannot be written";
  EXPECT_NE(state().dialogs[0].what, "");

  auto other = state().request;
  other.prompt = "another", other.seed = 99, other.steps = 7;
  act(act_on::Edit{other});
  act(act_on::RestoreFrom{png});
  until([&] { return state().tasks.empty(); });
  EXPECT_EQ(state().request.prompt, "a test");
  EXPECT_EQ(state().request.seed, 0u);
  EXPECT_EQ(state().request.steps, 3);
  EXPECT_EQ(state().request.output, "");
}

TEST_F(Kept, AFileOfAnotherKindIsNoSetting) {
  choose();
  std::ofstream(folder / "x.json") << "{}";
  act(act_on::RestoreFrom{(folder / "x.json").string()});
  until([&] { return state().tasks.empty(); });
  EXPECT_EQ(state().dialogs.size(), 1u);
  EXPECT_EQ(state().request.prompt, "a test");
}

#ifdef SAGELAB_FFMPEG
class KeptReport : public Kept {
 protected:
  void choose_a_size_that_mp4_takes() {
    choose();
    auto request = state().request;
    request.width = request.height = 64;
    act(act_on::Edit{request});
    until([&] { return !state().estimate.pending; });
  }
  std::string report_of(const std::vector<ui::Id>& results) {
    const auto path = folder / "report.html";
    fs::remove(path);
    act(act_on::Export{act_on::Export::Kind::Report, results, 0, path.string()});
    until_idle();
    std::ifstream page(path);
    return {std::istreambuf_iterator<char>(page), {}};
  }
};

TEST_F(KeptReport, IsTheSameAfterARestart) {
  choose_a_size_that_mp4_takes();
  act(act_on::GenerateBoth{{"sdpa", "sage2"}});
  until_idle();
  const std::vector<ui::Id> both{state().compared[0], state().compared[1]};
  const auto before = report_of(both);
  EXPECT_THAT(before, HasSubstr("Latents after each step"));
  start();
  until([&] { return state().results.size() == 3; });
  EXPECT_EQ(report_of(both), before);
  EXPECT_TRUE(state().dialogs.empty());
}

TEST_F(KeptReport, OfRunsThatNobodyComparedHasNoLatents) {
  choose_a_size_that_mp4_takes();
  act(act_on::Generate{});
  act(act_on::SetAttention{"sage2"});
  until_idle();
  act(act_on::Generate{});
  until_idle();
  const std::vector<ui::Id> both{state().results[0].id, state().results[1].id};
  EXPECT_EQ(report_of(both), "");
  ASSERT_EQ(state().dialogs.size(), 1u) << "the first was not made twice";
  act(act_on::DismissDialog{});
  act(act_on::Repeat{both[0]});
  until_idle();
  const auto page = report_of(both);
  EXPECT_TRUE(state().dialogs.empty());
  EXPECT_THAT(page, HasSubstr("every frame bit-identical; nobody looked at the latents"));
  EXPECT_THAT(page, HasSubstr("PSNR, mean over frames"));
  EXPECT_THAT(page, ::testing::Not(HasSubstr("Latents after each step")));
}

TEST_F(KeptReport, SideBySideAndTheReport) {
  choose_a_size_that_mp4_takes();
  act(act_on::GenerateBoth{{"sdpa", "sage2"}});
  until_idle();
  const std::vector<ui::Id> both{state().compared[0], state().compared[1]};
  using Kind = act_on::Export::Kind;
  act(act_on::Export{Kind::Mp4, {both[1]}, 0, (folder / "b.mp4").string()});
  act(act_on::Export{Kind::SideBySide, both, 0, (folder / "both.mp4").string()});
  act(act_on::Export{Kind::Report, both, 0, (folder / "report.html").string()});
  until_idle();
  EXPECT_TRUE(state().dialogs.empty()) << state().dialogs[0].what;
  EXPECT_GT(fs::file_size(folder / "b.mp4"), 500u);
  EXPECT_GT(fs::file_size(folder / "both.mp4"), 500u);
  std::ifstream page(folder / "report.html");
  const std::string text{std::istreambuf_iterator<char>(page), {}};
  EXPECT_THAT(text, HasSubstr("sage2"));
  EXPECT_THAT(text, HasSubstr("data:video/mp4;base64"));
  for (const auto& entry : fs::directory_iterator(folder))
    EXPECT_FALSE(entry.is_directory() && entry.path().filename() != "state") << entry.path() << " was left";
  act(act_on::Export{Kind::Report, {both[1], both[0]}, 0, (folder / "other.html").string()});
  until_idle();
  ASSERT_EQ(state().dialogs.size(), 1u) << "b was not made twice";
  EXPECT_THAT(state().dialogs[0].what, HasSubstr("was not made twice"));
}
#endif

}  // namespace
}  // namespace sagelab::gui
