// SPDX-License-Identifier: Apache-2.0
#include "app/session.h"

#include <c10/util/Exception.h>

#include <atomic>
#include <future>

#include "app/failure.h"
#include "attention/error.h"
#include "tests/app/fake_family.h"
#include "tests/app/support.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using std::chrono::milliseconds;

class SessionTest : public ::testing::Test {
 protected:
  std::shared_ptr<FakeHooks> hooks_ = std::make_shared<FakeHooks>();
  Family family_ = fake_family(hooks_);
  Session session_{[this](const fs::path&) -> const Family& { return family_; }};

  static Request request() {
    Request r;
    r.model = "fake";
    r.prompt = "p";
    r.attention = "sdpa(math)";
    return r;
  }

  // Everything that the job says, its end last.
  std::vector<Progress> finish(JobId job) {
    std::vector<Progress> said;
    for (int i = 0; i < 600; ++i) {
      auto progress = session_.wait(milliseconds(100));
      if (!progress || progress->job != job) continue;
      said.push_back(*progress);
      if (std::holds_alternative<Finished>(said.back().what) ||
          std::holds_alternative<Failed>(said.back().what))
        return said;
    }
    ADD_FAILURE() << "the job never ended";
    return said;
  }
  Failed failure_of(JobId job) {
    const auto end = finish(job).back();
    const auto* failed = std::get_if<Failed>(&end.what);
    return failed ? *failed : sagelab::failure("it did not fail");
  }
};

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

TEST_F(SessionTest, OnePipelineIsKeptAndAnotherModelReplacesIt) {
  finish(session_.submit(request()));
  finish(session_.submit(request()));
  EXPECT_EQ(hooks_->opened, 1);
  auto other = request();
  other.model = "other";
  finish(session_.submit(other));
  EXPECT_EQ(hooks_->opened, 2);
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

TEST_F(SessionTest, OutOfMemorySaysWhatToDo) {
  hooks_->step = [](int) { at::empty({int64_t(1) << 50}); };
  const auto failed = failure_of(session_.submit(request()));
  EXPECT_NE(failed.message.find("out of memory"), std::string::npos) << failed.message;
  EXPECT_NE(failed.message.find("allocate"), std::string::npos) << failed.message;
  EXPECT_NE(failed.hint.find("--vae-tiling on"), std::string::npos) << failed.hint;
  EXPECT_EQ(failed.message.find('\n'), std::string::npos);
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

TEST_F(SessionTest, AttentionSwitchesAtTheNextForward) {
  EXPECT_FALSE(session_.set_attention("sdpa(math)")) << "nothing runs";
  hooks_->step = [&](int i) {
    if (i == 1) {
      EXPECT_TRUE(session_.set_attention("reference"));
    }
  };
  auto r = request();
  r.steps = 4;
  const auto said = finish(session_.submit(r));
  const auto* finished = std::get_if<Finished>(&said.back().what);
  ASSERT_TRUE(finished);
  const auto& spans = finished->frames.report.at("attention").at("spans");
  ASSERT_EQ(spans.size(), 2u) << spans.dump();
  EXPECT_EQ(spans[0].at("steps"), (std::vector<int>{0, 1})) << "step 1 had begun with the old backend";
  EXPECT_EQ(spans[0].at("backend"), "sdpa(math)");
  EXPECT_EQ(spans[1].at("steps"), (std::vector<int>{2, 3}));
  EXPECT_EQ(spans[1].at("backend"), "reference");
  EXPECT_THROW(session_.set_attention("nonsense"), Error);
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
