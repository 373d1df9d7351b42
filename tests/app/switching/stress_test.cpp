// SPDX-License-Identifier: Apache-2.0
// A Session under somebody who switches attention at any time and cancels in any phase: nothing is left in
// memory, the report tells what happened, and what it tells makes the same bits again.
#include <ATen/Context.h>
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <map>
#include <random>
#include <thread>

#include "app/session.h"
#include "attention/error.h"
#include "pipelines/core/memory.h"
#include "tests/app/support.h"
#include "tests/support/parity.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using nlohmann::json;
using std::chrono::milliseconds;

const fs::path kModel = fs::path(SAGELAB_FIXTURES) / "cogvideox" / "5b" / "model";
constexpr int64_t kSlack = 64 << 20;  // bytes, on CUDA
// What malloc hands out differs by some bytes a tensor; less than one set of latents.
constexpr int64_t kRounding = 4096;

int runs_asked_for() {
  const char* text = std::getenv("SAGELAB_STRESS_RUNS");
  return text ? std::atoi(text) : 20;
}

// The phase that an event says is under way; empty: none, or another event.
std::string phase_begun(const Progress& progress) {
  const auto* phase = std::get_if<Phase>(&progress.what);
  return phase && phase->i < phase->n ? phase->name : "";
}

struct Told {
  std::vector<std::string> steps;     // the backend of each
  std::vector<std::string> accepted;  // what set_attention took, in order
  std::string phase;                  // the last that began
  json report;                        // null where the run was cancelled
};

class Stress : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (on_cuda() && !at::hasCUDA()) GTEST_SKIP() << "needs a CUDA device";
    count_cpu_tensors();
  }
  static bool on_cuda() { return std::string(GetParam()) == "cuda"; }
  static at::Device device() { return on_cuda() ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU); }

  // Each call's seconds are asked for, so that the report lists every call.
  std::string any_spec() {
    static const std::vector<std::string> kSpecs{"timed(sdpa(math))", "timed(sdpa(flash))",
                                                 "timed(reference)"};
    return kSpecs[random_() % kSpecs.size()];
  }
  Request request() {
    Request r;
    r.model = kModel;
    r.prompt = "a fox";
    r.width = 48, r.height = 32, r.num_frames = 9, r.steps = 6;
    r.seed = random_() % 1000;
    r.device = GetParam();
    r.attention = any_spec();
    r.attention_switch = random_() % 2 ? "call" : "forward";
    return r;
  }

  // cancel_in: a phase; empty: nobody cancels. switches: whether somebody switches meanwhile.
  Told run(Session& session, const Request& r, const std::string& cancel_in, bool switches) {
    Told told;
    const auto job = session.submit(r, {.save = latents_.string(), .decode = {}, .checkpoints = {}});
    std::jthread switcher;
    if (switches)
      switcher = std::jthread([&, seed = random_()](const std::stop_token& stop) {
        std::mt19937 random(seed);
        static const char* const kSpecs[] = {"timed(sdpa(math))", "timed(sdpa(flash))", "timed(reference)"};
        while (!stop.stop_requested()) {
          std::this_thread::sleep_for(std::chrono::microseconds(random() % 4000));
          const char* spec = kSpecs[random() % 3];
          if (session.set_attention(spec)) told.accepted.push_back(spec);
        }
      });
    for (bool ended = false; !ended;) {
      const auto progress = session.wait(milliseconds(200));
      if (!progress) continue;
      if (const auto phase = phase_begun(*progress); !phase.empty()) told.phase = phase;
      if (!cancel_in.empty() && told.phase == cancel_in) session.cancel(job);
      if (const auto* step = std::get_if<Step>(&progress->what)) told.steps.push_back(step->backend);
      if (const auto* finished = std::get_if<Finished>(&progress->what))
        told.report = finished->frames.report, ended = true;
      if (const auto* failed = std::get_if<Failed>(&progress->what)) {
        EXPECT_TRUE(failed->cancelled) << failed->message << " (cancel in \"" << cancel_in << "\", at "
                                       << told.phase << ") " << to_json(r).dump();
        ended = true;
      }
    }
    return told;
  }

  std::mt19937 random_{2024};
  TempFolder folder_;
  fs::path latents_ = folder_ / "z.safetensors";
};

// What served a call, by the switches of the report.
std::string served_at(const json& report, int step, int call) {
  std::string backend = report.at("request").at("attention");
  for (const auto& s : report.at("switches"))
    if (std::pair(s.at("step").get<int>(), s.at("call").get<int>()) <= std::pair(step, call))
      backend = s.at("to").get<std::string>();
  return backend;
}

void expect_calls_as_switched(const json& report) {
  const auto& calls = report.at("attention").at("calls");
  ASSERT_GT(calls.size(), 0u);
  std::map<int, int> counted;  // calls of each step so far
  for (const auto& call : calls) {
    const int step = call.at("step").get<int>();
    EXPECT_EQ("timed(" + call.at("backend").get<std::string>() + ")",
              served_at(report, step, counted[step]++))
        << report.at("switches").dump();
  }
}

// Each switch leaves what the last one had set, and follows what was asked for, in order.
void expect_switches_as_asked(const Told& told) {
  std::string serving = told.report.at("request").at("attention");
  auto next = told.accepted.begin();
  const bool per_call = told.report.at("request").at("attention_switch") == "call";
  for (const auto& s : told.report.at("switches")) {
    EXPECT_EQ(s.at("from"), serving);
    serving = s.at("to").get<std::string>();
    next = std::find(next, told.accepted.end(), serving);
    ASSERT_NE(next, told.accepted.end()) << "nobody asked for " << s.dump();
    EXPECT_TRUE(per_call || s.at("call") == 0) << s.dump();
  }
}

void expect_steps_as_told(const Told& told) {
  const auto& steps = told.report.at("steps");
  ASSERT_EQ(steps.size(), told.steps.size());
  for (size_t i = 0; i < steps.size(); ++i) EXPECT_EQ(steps[i].at("backend"), told.steps[i]);
}

// The request with the switches that took effect, as planned ones.
Request again(const Request& r, const json& report) {
  Request same = r;
  for (const auto& s : report.at("switches")) same.attention_at.push_back(s.at("at").get<std::string>());
  return same;
}

json places_of(const json& report) {
  json places = json::array();
  for (const auto& s : report.at("switches")) places.push_back({s.at("at"), s.at("from"), s.at("layer")});
  return places;
}

TEST_P(Stress, SwitchingAndCancellingAtAnyTimeLeavesNothingBehind) {
  const std::vector<std::string> phases{"load", "", "encode", "denoise", "decode"};
  std::map<std::string, int> cancelled;
  std::set<int64_t> warm;  // bytes of a session that has finished a run
  int64_t free_at_first = 0, switched = 0;
  const int64_t bytes_at_first = tensor_bytes(device());
  for (int done = 0; done < runs_asked_for();) {
    {
      Session session;
      for (const auto& phase : phases) {
        const auto r = request();
        const auto told = run(session, r, phase, true);
        done += 1;
        if (told.report.is_null()) {
          cancelled[told.phase] += 1;
          continue;
        }
        expect_steps_as_told(told);
        expect_switches_as_asked(told);
        expect_calls_as_switched(told.report);
        switched += int64_t(told.report.at("switches").size());
        const auto latents = Dump(latents_)["latents"].clone();
        const auto replayed = run(session, again(r, told.report), "", false);
        EXPECT_EQ(places_of(replayed.report), places_of(told.report));
        EXPECT_TRUE(at::equal(Dump(latents_)["latents"], latents)) << told.report.at("switches").dump();
        warm.insert(tensor_bytes(device()));
      }
    }
    EXPECT_EQ(tensor_bytes(device()), bytes_at_first) << "after " << done << " runs";
    const int64_t free = on_cuda() ? available_memory(device()) : 0;
    if (free_at_first == 0) free_at_first = free;
    EXPECT_GE(free, free_at_first - kSlack) << "after " << done << " runs";
  }
  if (!on_cuda()) {
    ASSERT_FALSE(warm.empty());
    EXPECT_LT(*warm.rbegin() - *warm.begin(), kRounding) << ::testing::PrintToString(warm);
  }
  EXPECT_GT(switched, 0);
  for (const auto* phase : {"load", "encode", "denoise", "decode"}) EXPECT_GT(cancelled[phase], 0) << phase;
}

// So that equal latents above say something.
TEST_P(Stress, TheBackendsDiffer) {
  Session session;
  auto r = request();
  std::vector<at::Tensor> latents;
  for (const auto* spec : {"sdpa(math)", "sdpa(flash)", "reference"}) {
    r.attention = spec;
    run(session, r, "", false);
    latents.push_back(Dump(latents_)["latents"].clone());
  }
  EXPECT_FALSE(at::equal(latents[0], latents[1]));
  EXPECT_FALSE(at::equal(latents[0], latents[2]));
  EXPECT_FALSE(at::equal(latents[1], latents[2]));
}

TEST_P(Stress, WhatCannotServeTheRunIsRefusedAtOnce) {
  if (on_cuda()) GTEST_SKIP() << "everything can run there";
  Session session;
  auto r = request();
  r.steps = 1000;
  const auto job = session.submit(r);
  for (bool stepped = false; !stepped;) {
    const auto progress = session.wait(milliseconds(200));
    stepped = progress && std::holds_alternative<Step>(progress->what);
  }
  EXPECT_THROW(session.set_attention("sdpa(cudnn)"), Error);
  session.cancel(job);
}

INSTANTIATE_TEST_SUITE_P(OnThe, Stress, ::testing::Values("cpu", "cuda"),
                         [](const auto& which) { return std::string(which.param); });

}  // namespace
}  // namespace sagelab
