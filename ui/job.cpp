// SPDX-License-Identifier: Apache-2.0
#include "ui/job.h"

#include <fmt/format.h>

#include <algorithm>

namespace sagelab::ui {

std::string Job::phase() const {
  return phases.empty() ? "" : phases.back().name;
}

double Job::progress() const {
  if (phases.empty() || phases.back().n <= 0) return 0;
  if (phases.back().name == "denoise" && steps > 0) return double(step_times.size()) / steps;
  return double(phases.back().i) / double(phases.back().n);
}

double Job::median_step() const {
  std::vector<double> times;
  for (size_t i = step_times.size() > 2 ? 1 : 0; i < step_times.size(); ++i)
    times.push_back(step_times[i].seconds);
  if (times.empty()) return NAN;
  std::sort(times.begin(), times.end());
  const size_t n = times.size();
  return n % 2 == 1 ? times[n / 2] : (times[n / 2 - 1] + times[n / 2]) / 2;
}

double Job::phase_left(double now) const {
  if (phases.empty() || status != Status::Running || !std::isnan(phases.back().ended)) return NAN;
  const auto& phase = phases.back();
  if (phase.name == "denoise") {
    // The latest step says most of what is to come once the backend was switched.
    double typical = step_times.empty() ? expected / steps : median_step();
    if (!switches.empty() && switches.back().step + 1 <= int(step_times.size()))
      typical = step_times.back().seconds;
    const int left = steps - int(step_times.size());
    if (left <= 0) return 0;
    return typical * (left - 1) + std::max(0., typical - (now - step_begun));
  }
  if (phase.i <= 0 || phase.n <= 0) return NAN;
  const double took = now - phase.begun;
  return took / double(phase.i) * double(phase.n - phase.i);
}

double Job::seconds(double now) const {
  if (phases.empty()) return 0;
  const double end = std::isnan(phases.back().ended) ? now : phases.back().ended;
  return end - phases.front().begun;
}

const char* name_of(Job::Status status) {
  switch (status) {
    case Job::Status::Waiting:
      return "waiting";
    case Job::Status::Running:
      return "running";
    case Job::Status::Done:
      return "done";
    case Job::Status::Failed:
      return "failed";
    case Job::Status::Cancelled:
      return "cancelled";
  }
  return "";
}

bool is_checked(const std::string& attention) {
  return attention.find("check(") != std::string::npos;
}

std::string clock_text(double seconds) {
  if (!std::isfinite(seconds)) return "-";
  const auto s = int64_t(std::ceil(seconds));
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

std::string last_backend(const std::string& served) {
  constexpr std::string_view kArrow = " -> ";
  const auto at = served.rfind(kArrow);
  return at == std::string::npos ? served : served.substr(at + kArrow.size());
}

std::string bytes_text(int64_t bytes) {
  const double b = double(bytes);
  if (b >= 1e9) return fmt::format("{:.2f} GB", b / 1e9);
  if (b >= 1e6) return fmt::format("{:.0f} MB", b / 1e6);
  if (b >= 1e3) return fmt::format("{:.0f} kB", b / 1e3);
  return fmt::format("{} bytes", bytes);
}

}  // namespace sagelab::ui
