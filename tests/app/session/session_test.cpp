// SPDX-License-Identifier: Apache-2.0
#include "app/session.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <gmock/gmock.h>

#include <atomic>
#include <future>

#include "app/failure.h"
#include "attention/error.h"
#include "pipelines/core/safetensors.h"
#include "tests/app/session/fixture.h"
#include "tests/app/support.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using std::chrono::milliseconds;

TEST_F(SessionTest, AJobSaysItsStepsAndEndsWithFrames) {
  const auto said = finish(session_.submit(request()));
  ASSERT_TRUE(std::holds_alternative<Started>(said.front().what));
  EXPECT_EQ(std::get<Started>(said.front().what).request.width, 16);
  int steps = 0;
  for (const auto& progress : said)
    if (const auto* step = std::get_if<Step>(&progress.what)) {
      EXPECT_EQ(step->i, ++steps);
    }
  EXPECT_EQ(steps, 3);
  const auto* finished = std::get_if<Finished>(&said.back().what);
  ASSERT_TRUE(finished);
  EXPECT_EQ(finished->frames.picture->frames, 2);
  EXPECT_EQ(finished->frames.picture->pixels.at(0), 191);
  const auto& report = finished->frames.report;
  EXPECT_EQ(report.at("steps").size(), 3u);
  EXPECT_EQ(report.at("steps")[0].at("served"), nlohmann::json::array({"sdpa(math)"}));
  EXPECT_EQ(report.at("attention").at("served").at("sdpa(math)").at("calls"), 3);
  EXPECT_EQ(report.at("memory").at("predicted_peak_bytes"), 1000);
  EXPECT_GT(report.at("memory").at("peak_bytes"), 0);
  EXPECT_EQ(report.at("request").at("num_frames"), 2);
}

TEST_F(SessionTest, WhatAStepMeasuredIsSaidBeforeThatStep) {
  auto r = request();
  r.attention = "check(sdpa(math),sdpa(flash))";
  const auto said = finish(session_.submit(r));
  std::vector<std::pair<int, int>> measured;  // the step that says it of itself, and how many were done
  int steps = 0;
  for (const auto& progress : said) {
    if (std::holds_alternative<Step>(progress.what)) ++steps;
    const auto* m = std::get_if<Measured>(&progress.what);
    if (!m) continue;
    measured.emplace_back(m->step, steps);
    EXPECT_EQ(m->a, "sdpa(math)");
    EXPECT_EQ(m->b, "sdpa(flash)");
    EXPECT_NEAR(m->cosine, 1, 1e-6);
    EXPECT_EQ(m->layer, 0);
  }
  EXPECT_EQ(measured, (std::vector<std::pair<int, int>>{{0, 0}, {1, 1}, {2, 2}}));
  const auto& report = std::get<Finished>(said.back().what).frames.report;
  EXPECT_EQ(report.at("attention").at("measurements").size(), 3u);
}

TEST_F(SessionTest, TheReportHasTheSecondsOfEachTimedCall) {
  const auto calls_of = [&](const char* attention) {
    auto r = request();
    r.attention = attention;
    const auto said = finish(session_.submit(r));
    return std::get<Finished>(said.back().what).frames.report.at("attention");
  };
  EXPECT_EQ(calls_of("sdpa(math)").at("calls"), nlohmann::json::array());
  const auto attention = calls_of("timed(sdpa(math))");
  auto calls = attention.at("calls");
  ASSERT_EQ(calls.size(), 3u);
  double sum = 0;
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_GT(calls[i].at("seconds"), 0);
    sum += calls[i].at("seconds").get<double>();
    calls[i].erase("seconds");
    const nlohmann::json expected{{"backend", "sdpa(math)"}, {"block", "block"}, {"branch", "cond"},
                                  {"fused", false},          {"layer", 0},       {"step", i}};
    EXPECT_EQ(calls[i], expected);
  }
  EXPECT_NEAR(attention.at("served").at("sdpa(math)").at("seconds").get<double>(), sum, 1e-9);
}

TEST_F(SessionTest, ACaptureCountsInThePlan) {
  Plan plan;
  plan.peak_by_phase = {{"encode", 1100}, {"denoise", 1000}}, plan.capture_bytes = 500;
  family_.plan = [plan](const Request&) { return plan; };
  const auto predicted = [&](attention::Capturing capture) {
    const auto end = finish(session_.submit(request(), {}, std::move(capture))).back();
    return std::get<Finished>(end.what).frames.report.at("memory").at("predicted_peak_bytes").get<int>();
  };
  std::vector<int> seen;
  const auto sink = [&](const attention::Captured& c) { seen.push_back(c.site.step); };
  EXPECT_EQ(predicted({}), 1100);
  EXPECT_EQ(predicted({{{0, 0}}, {{0, 0}, {2, 2}}, sink}), 1500);
  EXPECT_EQ(seen, (std::vector<int>{0, 2}));
}

TEST_F(SessionTest, OnePipelineIsKeptAndAnotherModelReplacesIt) {
  finish(session_.submit(request()));
  finish(session_.submit(request()));
  EXPECT_EQ(hooks_->opened, 1);
  auto other = request();
  other.model = "other";
  finish(session_.submit(other));
  EXPECT_EQ(hooks_->opened, 2);
}

TEST_F(SessionTest, WhatIsExpectedIsResolvedAndWhatCannotBeIsLeftOut) {
  auto wide = request(), other = request();
  wide.width = 20;
  other.model = "other";
  session_.expect({request(), wide, other});
  EXPECT_TRUE(std::holds_alternative<Finished>(finish(session_.submit(request())).back().what));
  ASSERT_EQ(hooks_->expected.size(), 1u);
  EXPECT_EQ(hooks_->expected[0].steps, 3);
}

TEST_F(SessionTest, CancelStopsBetweenSteps) {
  std::atomic<int> last = -1;
  std::promise<void> reached;
  hooks_->step = [&](int i) {
    last = i;
    if (i == 1) {
      reached.set_value();
      std::this_thread::sleep_for(milliseconds(100));
    }
  };
  auto r = request();
  r.steps = 1000;
  const auto job = session_.submit(r);
  reached.get_future().wait();
  session_.cancel(job);
  const auto failed = failure_of(job);
  EXPECT_TRUE(failed.cancelled);
  EXPECT_EQ(failed.message, "cancelled");
  EXPECT_EQ(last, 1);
  hooks_->step = [](int) {};
  EXPECT_TRUE(std::holds_alternative<Finished>(finish(session_.submit(request())).back().what));
  EXPECT_EQ(hooks_->opened, 1) << "a cancelled job keeps the loaded model";
}

TEST_F(SessionTest, ACancelledJobLeavesNothingOfItsRunInMemory) {
  count_cpu_tensors();
  constexpr int64_t kValues = 1 << 20;
  hooks_->latents = kValues;
  finish(session_.submit(request()));
  const int64_t kept = tensor_bytes(at::kCPU);
  std::promise<int64_t> held;
  hooks_->step = [&](int i) {
    if (i != 1) return;
    held.set_value(tensor_bytes(at::kCPU));
    std::this_thread::sleep_for(milliseconds(100));
  };
  auto r = request();
  r.steps = 1000;
  const auto job = session_.submit(r);
  EXPECT_GE(held.get_future().get(), kept + kValues * int64_t(sizeof(float)));
  session_.cancel(job);
  EXPECT_TRUE(failure_of(job).cancelled);
  EXPECT_EQ(tensor_bytes(at::kCPU), kept);
}

TEST_F(SessionTest, AWaitingJobCanBeCancelled) {
  std::promise<void> go;
  auto gate = go.get_future().share();
  hooks_->step = [&](int) { gate.wait(); };
  const auto first = session_.submit(request()), second = session_.submit(request());
  session_.cancel(second);
  go.set_value();
  EXPECT_TRUE(std::holds_alternative<Finished>(finish(first).back().what));
  EXPECT_TRUE(failure_of(second).cancelled);
}

TEST_F(SessionTest, PollDoesNotWaitForTheWorker) {
  std::promise<void> go;
  auto gate = go.get_future().share();
  hooks_->step = [&](int) { gate.wait(); };
  const auto job = session_.submit(request());
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i) session_.poll();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
  go.set_value();
  finish(job);
}

TEST_F(SessionTest, AFailureIsToldAndTheNextJobRuns) {
  hooks_->step = [](int) { throw Error("the weights are gone", "bring them back"); };
  const auto failed = failure_of(session_.submit(request()));
  EXPECT_EQ(failed.message, "the weights are gone");
  EXPECT_EQ(failed.hint, "bring them back");
  EXPECT_FALSE(failed.cancelled);
  hooks_->step = [](int) {};
  EXPECT_TRUE(std::holds_alternative<Finished>(finish(session_.submit(request())).back().what));
  EXPECT_EQ(hooks_->opened, 2) << "a failed pipeline is not used again";
}

TEST_F(SessionTest, WhatResolveRefusesIsTold) {
  auto r = request();
  r.width = 17;
  const auto failed = failure_of(session_.submit(r));
  EXPECT_EQ(failed.message, "width is not a multiple of 8");
  EXPECT_EQ(failed.hint, "nearest: 16");
}

TEST_F(SessionTest, InternalErrorsShowNoStackTrace) {
  hooks_->step = [](int) { TORCH_CHECK(false, "shapes [2, 3] and [4] differ"); };
  const auto failed = failure_of(session_.submit(request()));
  EXPECT_EQ(failed.message, "internal error: shapes [2, 3] and [4] differ");
  EXPECT_EQ(failed.hint, "this is a bug in sagelab: please report it with the command that you typed");
}

constexpr const char* kLess =
    "ask for fewer frames or a smaller size, --vae-tiling on, --offload encoders or layers, or --dtype bf16";

TEST_F(SessionTest, OutOfMemorySaysWhatToDo) {
  hooks_->step = [](int) { at::empty({int64_t(1) << 50}); };
  const auto failed = failure_of(session_.submit(request()));
  EXPECT_THAT(failed.message, ::testing::MatchesRegex(
                                  "out of memory in denoise on cpu: [0-9.]+ (bytes|kB|MB) of [0-9.]+ GB were "
                                  "held at the peak, 4503599.63 GB more were asked for"));
  EXPECT_EQ(failed.hint, kLess);
}

TEST_F(SessionTest, WhatDoesNotFitIsRefusedBeforeLoading) {
  Session small([this](const fs::path&) -> const Family& { return family_; },
                [](const at::Device&) { return int64_t(999); });
  const auto job = small.submit(request());
  std::optional<Progress> last;
  for (int i = 0; i < 100 && !(last && std::holds_alternative<Failed>(last->what)); ++i)
    if (auto progress = small.wait(milliseconds(100))) last = progress;
  ASSERT_TRUE(last && last->job == job);
  const auto& failed = std::get<Failed>(last->what);
  EXPECT_EQ(failed.message,
            "this run takes 1000 bytes of memory on cpu at its peak, and 999 bytes are there");
  EXPECT_EQ(failed.hint, kLess);
  EXPECT_EQ(hooks_->opened, 0);
}

TEST_F(SessionTest, NoticesAreToldAndInTheReport) {
  auto r = request();
  r.prompt = std::string(600, 'w');
  const auto said = finish(session_.submit(r));
  std::vector<std::string> notices;
  for (const auto& progress : said)
    if (const auto* notice = std::get_if<Notice>(&progress.what)) notices.push_back(notice->text);
  EXPECT_EQ(notices, std::vector<std::string>{"the prompt is cut"});
  EXPECT_EQ(std::get<Finished>(said.back().what).frames.report.at("notices"),
            nlohmann::json::array({"the prompt is cut"}));
}

TEST_F(SessionTest, APreviewThatCannotBeMadeIsNoReasonToStop) {
  hooks_->preview = [] { at::linalg_eigh(at::full({4, 4}, std::numeric_limits<float>::quiet_NaN())); };
  auto r = request();
  r.preview = 1;
  const auto said = finish(session_.submit(r));
  int notices = 0;
  for (const auto& progress : said) {
    if (const auto* notice = std::get_if<Notice>(&progress.what)) {
      notices += 1;
      EXPECT_TRUE(notice->text.starts_with("no preview: ")) << notice->text;
      EXPECT_EQ(notice->text.find('\n'), std::string::npos);
    }
    if (const auto* step = std::get_if<Step>(&progress.what)) {
      EXPECT_FALSE(step->preview);
    }
  }
  EXPECT_EQ(notices, 1) << "once for all steps";
  EXPECT_TRUE(std::holds_alternative<Finished>(said.back().what));
}

TEST_F(SessionTest, LatentsGoElsewhereWhenTheirDiskFills) {
  const TempFolder folder;
  hooks_->latents = 20'000;  // 160 kB
  fs::create_directory(folder / "z");
  auto r = request();
  r.output = (folder / "out/").string();
  // Away under the run's feet: what is left of "a disk that fills" where nobody may mount one.
  hooks_->step = [&](int i) {
    if (i == 2) fs::remove_all(folder / "z");
  };
  const auto file = (folder / "z/a.safetensors").string();
  const auto said = finish(session_.submit(r, {.save = file, .decode = {}}));
  const auto* finished = std::get_if<Finished>(&said.back().what);
  ASSERT_TRUE(finished);
  const auto elsewhere = (folder / "a.safetensors").string();
  EXPECT_EQ(finished->frames.report.at("latents"), elsewhere);
  EXPECT_EQ(finished->frames.report.at("notices"),
            nlohmann::json::array({"cannot write " + file +
                                   ": No such file or directory; the finished latents "
                                   "are in " +
                                   elsewhere}));
  EXPECT_TRUE(fs::exists(elsewhere));
}

TEST_F(SessionTest, ADiskThatFillsMeanwhileLosesNothing) {
  const TempFolder folder;
  const SmallDisk disk(folder / "disk", "size=512k");
  if (!disk.mounted()) GTEST_SKIP() << "needs the right to mount a file system";
  hooks_->latents = 20'000;  // 160 kB
  const auto file = (folder / "disk/a.safetensors").string();
  const auto fill = [&](int i) {
    if (i == 1) write_file(folder / "disk/fill", std::string(1 << 20, 'x'));
  };
  // The room was taken before the first step.
  hooks_->step = fill;
  auto said = finish(session_.submit(request(), {.save = file, .decode = {}}));
  const auto* finished = std::get_if<Finished>(&said.back().what);
  ASSERT_TRUE(finished);
  EXPECT_EQ(finished->frames.report.at("latents"), file);
  // Where there is none, no step is made.
  hooks_->step = [](int) { ADD_FAILURE() << "a step was made"; };
  const auto other = (folder / "disk/b.safetensors").string();
  const auto failed = failure_of(session_.submit(request(), {.save = other, .decode = {}}));
  EXPECT_EQ(failed.message, "cannot write " + other + ": No space left on device");
}

TEST_F(SessionTest, DamagedLatentsAreSaid) {
  const TempFolder folder;
  const auto file = (folder / "z.safetensors").string();
  const auto decode = [&] { return failure_of(session_.submit(request(), {.save = {}, .decode = file})); };
  const std::string hint = "give a latents file that this program wrote";
  EXPECT_EQ(decode().message, file + ": cannot be read: No such file or directory");
  EXPECT_EQ(decode().hint, hint);
  write_safetensors(file, {{"latents", at::ones({2, 2}, at::kLong)}});
  EXPECT_EQ(decode().message, file + ": the latents are of dtype I64, which is no floating point");
  write_safetensors(file, {{"other", at::ones({2})}});
  EXPECT_EQ(decode().message, file + ": tensor latents is missing");
  const auto request_error = [&] {
    try {
      request_of_latents(file);
    } catch (const Error& e) {
      return std::string(e.what()) + "; " + e.hint();
    }
    return std::string("no error");
  };
  EXPECT_EQ(request_error(), file + ": no request in this file's metadata; " + hint);
  write_safetensors(file, {{"latents", at::ones({2})}}, {{"request", "{\"seed\": "}});
  EXPECT_EQ(request_error(), file + ": the request in this file's metadata is not JSON; " + hint);
  write_safetensors(file, {{"latents", at::ones({2})}}, {{"request", "{\"sed\": 1}"}});
  EXPECT_TRUE(request_error().starts_with(file + ": request: unknown key \"sed\"; " + hint))
      << request_error();
}

TEST_F(SessionTest, LatentsOutliveAFailedDecode) {
  const TempFolder folder;
  hooks_->decode = [] { throw Error("no decoder", "get one"); };
  const auto file = (folder / "z.safetensors").string();
  const auto failed = failure_of(session_.submit(request(), {.save = file, .decode = {}}));
  EXPECT_EQ(failed.message, "no decoder");
  EXPECT_EQ(failed.latents, file);
  EXPECT_TRUE(fs::exists(file));

  hooks_->decode = [] {};
  hooks_->step = [](int) { ADD_FAILURE() << "decoding denoises nothing"; };
  const auto said = finish(session_.submit(request(), {.save = {}, .decode = file}));
  const auto* finished = std::get_if<Finished>(&said.back().what);
  ASSERT_TRUE(finished);
  EXPECT_EQ(finished->frames.picture->frames, 2);
}

TEST_F(SessionTest, LatentsOfAnotherRunAreNotClaimed) {
  const TempFolder folder;
  write_file(folder / "z.safetensors", "of an earlier run");
  hooks_->step = [](int) { throw Error("early", ""); };
  EXPECT_EQ(failure_of(session_.submit(request(), {.save = folder / "z.safetensors", .decode = {}})).latents,
            "");
}

TEST_F(SessionTest, TheDestructorCancels) {
  auto r = request();
  r.steps = 1 << 30;
  std::promise<void> started;
  auto hooks = std::make_shared<FakeHooks>();
  hooks->step = [&](int i) {
    if (i == 0) started.set_value();
  };
  const auto family = fake_family(hooks);
  {
    Session session([&](const fs::path&) -> const Family& { return family; });
    session.submit(r);
    session.submit(r);
    started.get_future().wait();
  }
  EXPECT_EQ(hooks->opened, 1);
}

}  // namespace
}  // namespace sagelab
