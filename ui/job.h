// SPDX-License-Identifier: Apache-2.0
// One generation as the queue shows it.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "pipelines/progress.h"

namespace sagelab::ui {

using Id = uint64_t;  // of a job and of its result, unlike any other's, also after a restart; 0: none

// "load", "encode", "denoise", "decode" as they pass: seconds are of State::now.
struct PhaseTime {
  std::string name;
  double begun = 0, ended = NAN;  // NaN: it goes on
  int64_t i = 0, n = 0;
};

struct StepTime {
  double seconds = 0;
  std::string backend;  // who served it: "sdpa", "sdpa -> sage2" where it was switched within
};

// Where the backend of the steps changed.
struct SwitchMark {
  int step = 0;  // the first that `to` served, from 0
  std::string from, to;
};

struct Job {
  enum class Status { Waiting, Running, Done, Failed, Cancelled };
  Id id = 0;
  JobId session = 0;  // as the session knows it; 0 before its turn
  Id repeats = 0;     // the result that is made again; or 0
  Request request;    // as asked for; once it runs, resolved
  Status status = Status::Waiting;
  bool cancelling = false;

  std::string attention;  // what serves now, or from the next forward on
  std::vector<PhaseTime> phases;
  int steps = 0;                     // in all
  double expected = NAN;             // seconds of all steps, as foretold; NaN: nothing tells
  double step_begun = 0;             // State::now as the step that goes on began
  std::vector<StepTime> step_times;  // one for each step that is done
  std::vector<SwitchMark> switches;
  std::vector<Measured> measured;  // of check(a, b)
  std::shared_ptr<const Picture> preview;
  std::vector<std::string> notices;
  std::string latents;     // the file of its finished latents; empty: none
  std::string what, hint;  // of a failure

  // Of the running phase.
  std::string phase() const;
  double progress() const;  // 0 to 1
  // Seconds until the running phase ends, at this moment; NaN where nothing tells.
  double phase_left(double now) const;
  double seconds(double now) const;  // since its start, or until its end
  // Of its steps, without the first where there are more than two: it warms up. NaN without steps.
  double median_step() const;
};

const char* name_of(Job::Status status);
// Whether check(...) is anywhere in a spec: what it checks runs twice, so that the clock tells of no backend.
bool is_checked(const std::string& attention);
// "0:07", "12:03", "1:02:03"; "-" for NaN.
std::string clock_text(double seconds);
// What serves after a step: of "sdpa -> sage2" it is sage2.
std::string last_backend(const std::string& served);
// "11.14 GB", "431 MB", "12 bytes": powers of ten.
std::string bytes_text(int64_t bytes);

}  // namespace sagelab::ui
