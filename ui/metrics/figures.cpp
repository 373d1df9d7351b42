// SPDX-License-Identifier: Apache-2.0
#include "ui/metrics/figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace sagelab::ui {
namespace {

constexpr std::string_view kArrow = " -> ";

template <typename All, typename Test>
auto* find_in(All& all, const Test& test) {
  const auto at = std::find_if(all.begin(), all.end(), test);
  return at == all.end() ? nullptr : &*at;
}

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

// Of finite values; infinite where all are.
double mean_of(const std::vector<double>& values) {
  double sum = 0;
  int finite = 0;
  for (const double v : values)
    if (std::isfinite(v)) sum += v, ++finite;
  if (finite > 0) return sum / finite;
  return std::any_of(values.begin(), values.end(), [](double v) { return std::isinf(v); }) ? INFINITY : NAN;
}

std::string decibels(double psnr) {
  if (std::isnan(psnr)) return "-";
  return std::isinf(psnr) ? "equal" : fmt::format("{:.2f} dB", psnr);
}

QualityRow row_of(const std::string& pair, const PairQuality& quality) {
  QualityRow row;
  row.pair = pair;
  row.problem = !quality.problem.empty() ? quality.problem : quality.pending ? "being measured" : "";
  if (!row.problem.empty()) return row;
  const double ssim = mean_of(quality.ssim);
  row.psnr = decibels(mean_of(quality.psnr));
  row.ssim = std::isnan(ssim) ? "-" : fmt::format("{:.4f}", ssim);
  const auto lowest = std::min_element(quality.psnr.begin(), quality.psnr.end());
  if (lowest != quality.psnr.end() && std::isfinite(*lowest))
    row.worst = fmt::format("frame {}: {}", lowest - quality.psnr.begin() + 1, decibels(*lowest));
  row.identical = fmt::format("{} of {}", quality.identical_frames, quality.psnr.size());
  return row;
}

QualityRow floor_of(const State& state, const std::string& name, Id first) {
  const auto text = name + " again";
  if (const auto* quality = state.floor(first)) return row_of(text, *quality);
  const auto* again = find_in(state.jobs, [&](const Job& job) {
    return job.repeats == first && (job.status == Job::Status::Running || job.status == Job::Status::Waiting);
  });
  QualityRow row;
  row.pair = text;
  row.problem = again ? "being made" : "not made yet";
  return row;
}

}  // namespace

std::vector<const Job*> jobs_to_show(const State& state) {
  std::vector<const Job*> jobs;
  const auto add = [&](const Job* job) {
    if (job && std::find(jobs.begin(), jobs.end(), job) == jobs.end()) jobs.push_back(job);
  };
  for (const Id id : state.compared) add(state.job(id));
  add(state.running());
  if (!jobs.empty()) return jobs;
  const auto last = std::find_if(state.jobs.rbegin(), state.jobs.rend(),
                                 [](const Job& job) { return !job.step_times.empty(); });
  if (last != state.jobs.rend()) add(&*last);
  return jobs;
}

std::string short_name(const State& state, Id id) {
  for (size_t i = 0; i < state.compared.size(); ++i)
    if (id != 0 && state.compared[i] == id) return std::string(1, char('A' + i));
  return fmt::format("#{}", id);
}

std::vector<BackendTime> backend_times(const std::vector<const Job*>& jobs) {
  std::map<std::pair<std::string, bool>, std::vector<double>> seconds;
  for (const auto* job : jobs) {
    const auto& steps = job->step_times;
    for (size_t i = steps.size() > 2 ? 1 : 0; i < steps.size(); ++i) {
      const auto& backend = steps[i].backend;
      if (backend.find(kArrow) != std::string::npos) continue;
      const bool emulated = job->request.device == "cpu" && backend.find("sage2") != std::string::npos;
      seconds[{backend, emulated}].push_back(steps[i].seconds);
    }
  }
  std::vector<BackendTime> times;
  for (const auto& [key, all] : seconds) {
    const auto [least, most] = std::minmax_element(all.begin(), all.end());
    times.push_back({key.first, int(all.size()), median_of(all), *least, *most, key.second});
  }
  return times;
}

std::vector<PhaseSum> phase_sums(const Job& job, double now) {
  std::vector<PhaseSum> sums;
  for (const auto& phase : job.phases) {
    auto* sum = find_in(sums, [&](const PhaseSum& s) { return s.name == phase.name; });
    if (!sum) sum = &sums.emplace_back(PhaseSum{phase.name, 0, false});
    const bool goes_on = std::isnan(phase.ended);
    sum->seconds += std::max((goes_on ? now : phase.ended) - phase.begun, 0.);
    sum->goes_on = goes_on;
  }
  return sums;
}

QualityTable quality_table(const State& state) {
  QualityTable table;
  std::vector<Id> shown;
  for (const Id id : state.compared)
    if (state.result(id)) shown.push_back(id);
  if (shown.empty()) return table;
  const Id first = shown.front();
  const auto name = short_name(state, first);
  for (size_t i = 1; i < shown.size(); ++i)
    if (const auto* quality = state.quality(shown[i], first))
      table.rows.push_back(row_of(fmt::format("{} to {}", short_name(state, shown[i]), name), *quality));
  table.floor = floor_of(state, name, first);
  if (table.floor.problem == "not made yet") table.first = first;
  return table;
}

}  // namespace sagelab::ui
