// SPDX-License-Identifier: Apache-2.0
// All that the window shows. Plain C++: the app fills it, panels read it and answer with Actions
// (ui/actions.h). What only a panel cares about (scroll, open tabs, text being typed) is the panel's own.
#pragma once

#include <array>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ui/estimate.h"
#include "ui/job.h"
#include "ui/policy.h"

namespace sagelab::ui {

// A model folder that may be chosen. problem: why it cannot be used; empty where it can.
struct ModelChoice {
  std::string path, family, label;
  std::vector<Option> options;
  Request defaults;  // resolved: the folder's own size, steps, guidance ...
  Request shown;     // what choosing it puts under edit: its path, and a prompt where it suggests one
  // Widths, heights and frame counts that it can make are this far apart.
  int width_grain = 16, height_grain = 16, frames_grain = 4;
  bool bundled = false, pictures_only = false;  // pictures: one frame, whatever is asked for
  std::string problem, hint;
};

// A named set of values over the model's own.
struct Preset {
  std::string name, help;
  Request request;  // only what is set counts
};

// A row of backends(). reason: why it cannot serve the request at hand; empty where it can.
struct BackendChoice {
  std::string spec, help, reason;
  bool emulated = false;  // quality, not speed
};

// A finished job's frames; its id is the job's.
struct Result {
  Id id = 0;
  std::string title;  // "sage2, seed 7"
  Frames frames;
  Id repeats = 0;  // the result that this one was made again from, to know the floor of every figure; or 0
  bool emulated = false;
  double median_step = NAN;  // seconds
  std::string saved;         // the file that holds it; empty: none yet
};

// Of result a against result b, by frame; and of a against itself made again, by which both can be judged.
struct PairQuality {
  Id a = 0, b = 0;
  bool pending = true;
  std::vector<double> psnr, ssim;  // psnr is infinite where frames are equal
  int identical_frames = 0;
  std::string problem;  // why there are none: "sizes differ"
};

struct MemorySample {
  double at = 0;         // State::now
  int64_t resident = 0;  // bytes of the process
  int64_t device = 0;    // bytes taken on the GPU; 0 without one
};

// An error for a person, or a question. Errors end with an OK.
struct Dialog {
  enum class Kind { Error, Info, CloseWhileBusy };
  Kind kind = Kind::Error;
  std::string title, what, hint;
};

// Work of the app beside the session: an export, a prompt file being read.
struct Task {
  Id id = 0;
  std::string what;
};

struct State {
  double now = 0;  // seconds since the app started
  std::string version, device;

  std::vector<ModelChoice> models;
  std::vector<Preset> presets;  // of the chosen model
  Request request;              // under edit
  Estimate estimate;            // of it
  std::vector<BackendChoice> backends;
  Policy policy;

  std::vector<Job> jobs;  // finished ones first come first; waiting ones in the order of their turn
  bool paused = false;    // waiting jobs wait on
  std::vector<Result> results;
  std::array<Id, 3> compared{};  // jobs or results in the canvas: a, b, c; 0: none
  std::vector<PairQuality> qualities;
  std::vector<MemorySample> memory;
  std::vector<Task> tasks;
  std::vector<std::string> log;  // notices, newest last

  std::vector<Dialog> dialogs;  // the first is shown
  bool closing = false;         // the window goes as soon as the worker has stopped

  const ModelChoice* model() const;  // the one under edit; null where it is unknown
  const Job* job(Id id) const;
  Job* job(Id id);
  const Job* running() const;
  Job* running();
  const Result* result(Id id) const;
  // Of a against b, or null where nobody asked for it.
  const PairQuality* quality(Id a, Id b) const;
  const PairQuality* floor(Id a) const;  // of a's repetition against a; or null
  bool busy() const;                     // something runs or waits
};

// What a worker says, into the state: the job of that session id is changed, a result or a dialog is added.
void fold(State& state, const Progress& progress);

}  // namespace sagelab::ui
