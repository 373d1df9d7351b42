// SPDX-License-Identifier: Apache-2.0
// A job on the terminal until it ends: progress, notices, Ctrl-C.
#pragma once

#include <functional>
#include <variant>

#include "app/progress_line.h"
#include "app/session.h"

namespace sagelab {

// Both may be empty.
struct Watch {
  std::function<void()> often;  // some twenty times a second
  std::function<void(const Progress&)> seen;
};

// Ctrl-C (catch_interrupt) cancels the job, once. Says nothing of a failure.
std::variant<Finished, Failed> follow(Session& session, JobId job, ProgressLine& line,
                                      const Watch& watch = {});
// The same for a command that is nothing without the job's frames. Throws Cancelled, and sagelab::Error for a
// failure.
Frames frames_of(Session& session, JobId job, ProgressLine& line);

}  // namespace sagelab
