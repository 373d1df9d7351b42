// SPDX-License-Identifier: Apache-2.0
#include "app/gui/frame_times.h"

#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

namespace sagelab::gui {
namespace {

constexpr double kBin = 10e-6;  // seconds
constexpr size_t kBins = 10000;
constexpr std::array<const char*, kParts> kNames = {"update", "begin", "draw", "finish", "show", "execute"};

double seconds_of(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return double(time.tv_sec) + double(time.tv_nsec) * 1e-9;
}

Span now() {
  return {seconds_of(CLOCK_THREAD_CPUTIME_ID), seconds_of(CLOCK_MONOTONIC)};
}

}  // namespace

Span FrameTime::own() const {
  Span all;
  for (size_t i = 0; i < kParts; ++i) {
    if (Part(i) == Part::Show) continue;
    all.processor += parts[i].processor;
    all.clock += parts[i].clock;
  }
  return all;
}

FrameTimer::FrameTimer() : last_(now()) {}

void FrameTimer::end(Part part) {
  const Span at = now();
  auto& span = time_.parts[size_t(part)];
  span.processor += at.processor - last_.processor;
  span.clock += at.clock - last_.clock;
  last_ = at;
}

void FrameTimes::add(const FrameTime& frame) {
  if (counts_.empty()) counts_.resize(kBins);
  const Span own = frame.own();
  ++counts_[std::min(size_t(own.processor / kBin), kBins - 1)];
  ++frames_;
  sum_ += own.processor;
  longest_clock_ = std::max(longest_clock_, own.clock);
  if (own.processor > longest_own()) slowest_ = frame;
}

double FrameTimes::own_at(double part) const {
  const double wanted = part * frames_;
  int64_t seen = 0;
  for (size_t i = 0; i + 1 < counts_.size(); ++i) {
    seen += counts_[i];
    if (double(seen) >= wanted) return std::min(double(i + 1) * kBin, longest_own());
  }
  return longest_own();
}

double FrameTimes::mean_own() const {
  return frames_ > 0 ? sum_ / frames_ : 0;
}

std::string FrameTimes::text() const {
  size_t most = 0;
  for (size_t i = 0; i < kParts; ++i)
    if (Part(i) != Part::Show && slowest_.parts[i].processor > slowest_.parts[most].processor) most = i;
  return fmt::format(
      "{} frames, own work {:.2f} ms of processor on average, {:.2f} ms for 99 of 100, {:.2f} ms at most ({} "
      "{:.2f}); by the clock {:.2f} ms at most",
      frames_, mean_own() * 1e3, own_at(.99) * 1e3, longest_own() * 1e3, kNames[most],
      slowest_.parts[most].processor * 1e3, longest_clock_ * 1e3);
}

double process_age() {
  // proc(5): the 22nd field, clock ticks since the system started; the second may hold spaces.
  std::ifstream file("/proc/self/stat");
  std::string all;
  std::getline(file, all);
  std::istringstream rest(all.substr(std::min(all.rfind(')') + 1, all.size())));
  constexpr int kFromThird = 22 - 3;
  std::string field;
  for (int i = 0; i <= kFromThird; ++i) rest >> field;
  return seconds_of(CLOCK_BOOTTIME) - std::stod(field) / double(::sysconf(_SC_CLK_TCK));
}

}  // namespace sagelab::gui
