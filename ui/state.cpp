// SPDX-License-Identifier: Apache-2.0
#include "ui/state.h"

#include <fmt/format.h>

#include <algorithm>

namespace sagelab::ui {
namespace {

constexpr const char* kDenoise = "denoise";

template <typename All, typename Test>
auto* find_in(All& all, const Test& test) {
  const auto it = std::find_if(all.begin(), all.end(), test);
  return it == all.end() ? nullptr : &*it;
}

void end_phases(Job& job, double now) {
  if (!job.phases.empty() && std::isnan(job.phases.back().ended)) job.phases.back().ended = now;
}

void fold(State& state, Job& job, const Started& started) {
  job.status = Job::Status::Running;
  job.request = started.request;
  if (job.attention.empty()) job.attention = started.request.attention;
  job.steps = started.request.steps.value_or(0);
  job.phases.push_back({"start", state.now, NAN, 0, 0});
}

void begin_phase(const State& state, Job& job, const Phase& phase) {
  end_phases(job, state.now);
  job.phases.push_back({phase.name, state.now, NAN, phase.i, phase.n});
  job.step_begun = state.now;
}

void fold(State& state, Job& job, const Phase& phase) {
  if (job.phases.empty() || job.phases.back().name != phase.name) begin_phase(state, job, phase);
  auto& last = job.phases.back();
  last.i = phase.i, last.n = phase.n;
  last.ended = phase.n > 0 && phase.i >= phase.n ? state.now : NAN;
}

void fold(State& state, Job& job, const Step& step) {
  const std::string before = job.step_times.empty() ? "" : last_backend(job.step_times.back().backend);
  const auto arrow = step.backend.find(" -> ");
  const std::string first = step.backend.substr(0, arrow), now = last_backend(step.backend);
  const int index = int(job.step_times.size());
  if (!before.empty() && first != before) job.switches.push_back({index, before, first});
  if (first != now) job.switches.push_back({index, first, now});
  // A component may be loaded within the first step; from then on it is denoising again.
  if (job.phase() != kDenoise) begin_phase(state, job, {kDenoise, 0, 1});
  job.step_times.push_back({step.seconds, step.backend});
  job.step_begun = state.now;
  job.steps = step.n;
  if (step.preview) job.preview = step.preview;
}

void fold(State& state, Job& job, const Notice& notice) {
  job.notices.push_back(notice.text);
  state.log.push_back(notice.text);
}

void fold(State&, Job& job, const Measured& measured) {
  job.measured.push_back(measured);
}

bool is_emulated(const Job& job, const Request& request) {
  return request.device == "cpu" &&
         std::any_of(job.step_times.begin(), job.step_times.end(),
                     [](const StepTime& step) { return step.backend.find("sage2") != std::string::npos; });
}

std::string title_of(const Job& job, const Request& request) {
  std::string spec = job.step_times.empty() ? request.attention : job.step_times.front().backend;
  for (const auto& mark : job.switches) spec += " -> " + mark.to;
  return fmt::format("{}, seed {}{}", spec, request.seed, job.repeats ? ", again" : "");
}

// What a report holds of check(a, b), where nobody said it while it ran.
std::vector<Measured> measurements_in(const nlohmann::json& report) {
  std::vector<Measured> all;
  if (!report.contains("attention") || !report.at("attention").contains("measurements")) return all;
  for (const auto& m : report.at("attention").at("measurements")) {
    const auto& site = m.at("site");
    const auto number = [&](const char* key) {
      return m.at(key).is_number() ? m.at(key).get<double>() : NAN;
    };
    all.push_back({site.at("step"), site.at("layer"), m.at("a"), m.at("b"), number("cosine"),
                   number("relative_l1"), number("rmse"), number("max_abs")});
  }
  return all;
}

void fold(State& state, Job& job, const Finished& finished) {
  end_phases(job, state.now);
  if (job.measured.empty()) job.measured = measurements_in(finished.frames.report);
  job.status = Job::Status::Done;
  job.request = finished.frames.request;
  Result result;
  result.id = job.id;
  result.frames = finished.frames;
  result.repeats = job.repeats;
  result.emulated = is_emulated(job, job.request);
  result.median_step = is_checked(job.request.attention) ? NAN : job.median_step();
  result.title = title_of(job, job.request);
  state.results.push_back(std::move(result));
}

void fold(State& state, Job& job, const Failed& failed) {
  end_phases(job, state.now);
  job.status = failed.cancelled ? Job::Status::Cancelled : Job::Status::Failed;
  job.what = failed.message, job.hint = failed.hint;
  if (!failed.latents.empty()) job.latents = failed.latents;
  if (!failed.cancelled)
    state.dialogs.push_back({Dialog::Kind::Error, "The run failed", failed.message, failed.hint});
}

}  // namespace

void fold(State& state, const Progress& progress) {
  auto* job = find_in(state.jobs, [&](const Job& j) { return j.session == progress.job; });
  if (progress.job == 0 || !job) return;
  std::visit([&](const auto& what) { fold(state, *job, what); }, progress.what);
}

const ModelChoice* State::model() const {
  return find_in(models, [&](const ModelChoice& m) { return m.path == request.model; });
}
const Job* State::job(Id id) const {
  return id == 0 ? nullptr : find_in(jobs, [&](const Job& j) { return j.id == id; });
}
Job* State::job(Id id) {
  return id == 0 ? nullptr : find_in(jobs, [&](const Job& j) { return j.id == id; });
}
const Job* State::running() const {
  return find_in(jobs, [](const Job& j) { return j.status == Job::Status::Running; });
}
Job* State::running() {
  return find_in(jobs, [](const Job& j) { return j.status == Job::Status::Running; });
}
const Result* State::result(Id id) const {
  return id == 0 ? nullptr : find_in(results, [&](const Result& r) { return r.id == id; });
}
const PairQuality* State::quality(Id a, Id b) const {
  return find_in(qualities, [&](const PairQuality& q) { return q.a == a && q.b == b; });
}
const PairQuality* State::floor(Id a) const {
  const auto* again = find_in(results, [&](const Result& r) { return a != 0 && r.repeats == a; });
  return again ? quality(again->id, a) : nullptr;
}
bool State::busy() const {
  return std::any_of(jobs.begin(), jobs.end(), [](const Job& j) {
    return j.status == Job::Status::Running || j.status == Job::Status::Waiting;
  });
}

}  // namespace sagelab::ui
