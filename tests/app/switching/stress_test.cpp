// SPDX-License-Identifier: Apache-2.0
// A Session under somebody who switches attention at any time and cancels in any phase: nothing is left in
// memory, the report tells what happened, and what it tells makes the same bits again. The long one, on a
// GPU:
//   SAGELAB_STRESS_RUNS=200 app_switching_stress_test --gtest_filter='OnThe/Stress.Switching*/cuda'
#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <malloc.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <random>
#include <thread>

#include "app/replay/origin.h"
#include "app/session.h"
#include "attention/error.h"
#include "tests/app/support.h"
#include "tests/support/parity.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using nlohmann::json;
using std::chrono::milliseconds;

const fs::path kModel = fs::path(SAGELAB_FIXTURES) / "cogvideox" / "5b" / "model";
constexpr int64_t kSlack = 64 << 20;  // bytes
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
  std::vector<Step> steps;
  std::vector<std::string> accepted;  // what set_attention took, in order
  std::string phase;                  // the last that began
  json report;                        // null where the run was cancelled
};

// Bytes that this process holds.
struct Held {
  int64_t tensors = 0, resident = 0;
  int64_t device = 0;  // of the whole device, with nothing cached: contexts and kernels count; 0 on CPU
};

int64_t resident_bytes() {
  int64_t size = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> size >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

Held held_on(const at::Device& device) {
  ::malloc_trim(0);
  Held held{tensor_bytes(device), resident_bytes()};
  if (!device.is_cuda()) return held;
  auto& allocator = *c10::getDeviceAllocator(device.type());
  allocator.emptyCache();
  const auto [free, total] = allocator.getMemoryInfo(device.index());
  held.device = int64_t(total) - int64_t(free);
  return held;
}

// What the summary says.
struct Counts {
  int runs = 0, finished = 0, identical = 0;
  int64_t switches = 0, calls = 0;
  std::map<std::string, int> cancelled;  // by the phase under way
  std::set<std::string> served;          // backends
  Held most;                             // above what was held at first
};

std::string summary_of(const Counts& c, const std::string& device) {
  std::string cancelled;
  for (const auto& [phase, n] : c.cancelled) cancelled += fmt::format(" {} {}", phase, n);
  return fmt::format(
      "stress on {}: {} runs, {} finished (replay bit-exact: {}), cancelled in{}; {} switches, {} calls as "
      "the report says, by {}; most held above the first: {} bytes of tensors, "
      "{:.1f} MiB of the process, {:.1f} MiB of the device",
      device, c.runs, c.finished, c.identical, cancelled, c.switches, c.calls, fmt::join(c.served, " "),
      c.most.tensors, double(c.most.resident) / (1 << 20), double(c.most.device) / (1 << 20));
}

class Stress : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (on_cuda() && !at::hasCUDA()) GTEST_SKIP() << "needs a CUDA device";
    if (on_cuda()) at::empty({1}, at::device(device()));  // before that its allocator refuses all questions
    count_cpu_tensors();
  }
  static bool on_cuda() { return std::string(GetParam()) == "cuda"; }
  static at::Device device() { return on_cuda() ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU); }
  static const std::vector<std::string>& backends() {
    static const std::vector<std::string> kCpu{"sdpa(math)", "sdpa(flash)", "reference", "sage2"};
    static const std::vector<std::string> kCuda{"sdpa(math)", "sdpa(flash)", "sdpa(cudnn)", "sage2",
                                                "sage2(qk=int4)"};
    return on_cuda() ? kCuda : kCpu;
  }
  // Each call's seconds are asked for, so that the report lists every call.
  static std::string any_spec(std::mt19937& random) {
    return fmt::format("timed({})", backends()[random() % backends().size()]);
  }
  Request request() {
    Request r;
    r.model = kModel;
    r.prompt = "a fox";
    r.width = 48, r.height = 32, r.num_frames = 9, r.steps = 6;
    r.seed = random_() % 1000;
    r.device = GetParam();
    if (on_cuda()) r.dtype = "bf16";
    r.attention = any_spec(random_);
    r.attention_switch = random_() % 2 ? "call" : "forward";
    return r;
  }

  // cancel_in: a phase, of denoise after a step at random; empty: nobody cancels. switches: whether somebody
  // switches meanwhile.
  Told run(Session& session, const Request& r, const std::string& cancel_in, bool switches) {
    Told told;
    const auto job = session.submit(r, {.save = latents_.string(), .decode = {}, .checkpoints = {}});
    std::jthread switcher;
    if (switches)
      switcher = std::jthread([&, seed = random_()](const std::stop_token& stop) {
        std::mt19937 random(seed);
        while (!stop.stop_requested()) {
          std::this_thread::sleep_for(std::chrono::microseconds(random() % 4000));
          const auto spec = any_spec(random);
          if (session.set_attention(spec)) told.accepted.push_back(spec);
        }
      });
    const size_t steps_before = cancel_in == "denoise" ? random_() % 4 : 0;
    for (bool ended = false; !ended;) {
      const auto progress = session.wait(milliseconds(200));
      if (!progress) continue;
      if (const auto phase = phase_begun(*progress); !phase.empty()) told.phase = phase;
      if (const auto* step = std::get_if<Step>(&progress->what)) told.steps.push_back(*step);
      if (!cancel_in.empty() && told.phase == cancel_in && told.steps.size() >= steps_before)
        session.cancel(job);
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

  // What a first use makes for good: a library's handles, workspaces, kernels.
  void warm_up() {
    Session session;
    for (const auto& backend : backends()) {
      auto r = request();
      r.attention = fmt::format("timed({})", backend);
      EXPECT_FALSE(run(session, r, "", false).report.is_null()) << backend;
    }
  }
  void verify(Session& session, const Told& told, Counts& counts);
  void expect_held(const Held& first, const Held& now, Counts& counts) const;

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
  for (size_t i = 0; i < steps.size(); ++i) {
    EXPECT_EQ(told.steps[i].i, int(i) + 1);
    EXPECT_EQ(steps[i].at("backend"), told.steps[i].backend);
    EXPECT_EQ(steps[i].at("seconds"), told.steps[i].seconds);
  }
}

// Against what the worker told meanwhile; and what its report says, made again as replay does.
void Stress::verify(Session& session, const Told& told, Counts& counts) {
  expect_steps_as_told(told);
  expect_switches_as_asked(told);
  expect_calls_as_switched(told.report);
  counts.finished += 1;
  counts.switches += int64_t(told.report.at("switches").size());
  counts.calls += int64_t(told.report.at("attention").at("calls").size());
  for (const auto& [backend, _] : told.report.at("made").at("attention").at("served").items())
    counts.served.insert(backend);

  const auto latents = Dump(latents_)["latents"].clone();
  const auto file = folder_ / "report.json";
  write_file(file, told.report.dump());
  const auto replayed = run(session, origins_of(file).at(0).request, "", false);
  EXPECT_EQ(replayed.report.at("made"), told.report.at("made"));
  const bool same = at::equal(Dump(latents_)["latents"], latents) &&
                    replayed.report.at("made").at("frames") == told.report.at("made").at("frames");
  EXPECT_TRUE(same) << told.report.at("switches").dump();
  counts.identical += same;
}

void Stress::expect_held(const Held& first, const Held& now, Counts& counts) const {
  const Held more{now.tensors - first.tensors, now.resident - first.resident, now.device - first.device};
  EXPECT_LE(more.tensors, on_cuda() ? kSlack : 0) << "after " << counts.runs << " runs";
  EXPECT_LE(more.device, kSlack) << "after " << counts.runs << " runs";
#ifndef __SANITIZE_ADDRESS__  // it keeps what was freed
  EXPECT_LE(more.resident, kSlack) << "after " << counts.runs << " runs";
#endif
  counts.most.tensors = std::max(counts.most.tensors, more.tensors);
  counts.most.resident = std::max(counts.most.resident, more.resident);
  counts.most.device = std::max(counts.most.device, more.device);
}

TEST_P(Stress, SwitchingAndCancellingAtAnyTimeLeavesNothingBehind) {
  const std::vector<std::string> phases{"load", "", "encode", "denoise", "decode"};
  const int64_t tensors_before = on_cuda() ? 0 : tensor_bytes(device());
  warm_up();
  const Held first = held_on(device());
  EXPECT_EQ(on_cuda() ? 0 : first.tensors, tensors_before);
  Counts counts;
  std::set<int64_t> warm;  // bytes of a session that has finished a run
  while (counts.runs < runs_asked_for()) {
    {
      Session session;
      for (const auto& phase : phases) {
        const auto told = run(session, request(), phase, true);
        counts.runs += 1;
        if (told.report.is_null()) {
          counts.cancelled[told.phase] += 1;
          continue;
        }
        verify(session, told, counts);
        warm.insert(tensor_bytes(device()));
      }
    }
    expect_held(first, held_on(device()), counts);
  }
  std::printf("%s\n", summary_of(counts, GetParam()).c_str());
  if (!on_cuda()) {
    ASSERT_FALSE(warm.empty());
    EXPECT_LT(*warm.rbegin() - *warm.begin(), kRounding) << ::testing::PrintToString(warm);
  }
  EXPECT_GT(counts.switches, 0);
  EXPECT_EQ(counts.served.size(), backends().size()) << "every backend has its turn";
  for (const auto* phase : {"load", "encode", "denoise", "decode"})
    EXPECT_GT(counts.cancelled[phase], 0) << phase;
}

// So that equal latents above say something.
TEST_P(Stress, TheBackendsDiffer) {
  Session session;
  auto r = request();
  std::vector<at::Tensor> distinct;
  for (const auto& backend : backends()) {
    r.attention = backend;
    run(session, r, "", false);
    const auto made = Dump(latents_)["latents"].clone();
    const auto same = [&](const at::Tensor& other) { return at::equal(made, other); };
    if (std::none_of(distinct.begin(), distinct.end(), same)) distinct.push_back(made);
  }
  EXPECT_GE(distinct.size(), 3u) << "two of LibTorch's own may round alike";
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
