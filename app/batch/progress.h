// SPDX-License-Identifier: Apache-2.0
// Two lines on a terminal, the whole batch above the run at hand, each with its ETA; plain lines elsewhere.
#pragma once

#include <chrono>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>

#include "app/progress_line.h"

namespace sagelab::batch {

class BatchProgress {
 public:
  using Clock = std::chrono::steady_clock;
  // work: of all that is to be made, in any unit. now: for tests.
  BatchProgress(std::FILE* out, bool terminal, double work,
                std::function<Clock::time_point()> now = Clock::now);
  ~BatchProgress() { clear(); }
  BatchProgress(const BatchProgress&) = delete;
  BatchProgress& operator=(const BatchProgress&) = delete;

  // count: "3/48"; work: of this run.
  void begin(const std::string& count, const std::string& name, double work);
  void show(const Progress& progress);
  void end();                          // of that run, however it ended
  void note(const std::string& text);  // a line for good: "sagelab: <text>"
  void clear();

 private:
  void draw();
  std::string text() const;

  std::FILE* out_;
  bool terminal_, drawn_ = false;
  std::function<Clock::time_point()> now_;
  ProgressLine line_;
  std::string count_, name_;
  double left_, done_ = 0;                       // work, but for the run at hand
  double run_ = 0, run_done_ = 0;                // work of the run at hand
  std::optional<Clock::time_point> first_step_;  // loading is no measure of the rest
  Clock::time_point start_;
};

}  // namespace sagelab::batch
