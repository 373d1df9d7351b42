// SPDX-License-Identifier: Apache-2.0
// What the metrics panel says in numbers, out of the state.
#pragma once

#include <string>
#include <vector>

#include "ui/state.h"

namespace sagelab::ui {

// Those in the canvas, then the one that runs; without either the last one that has steps.
std::vector<const Job*> jobs_to_show(const State& state);
// "A", "B", "C" for what is in the canvas, else "#12".
std::string short_name(const State& state, Id id);

// Of a backend over all steps that it served alone; the first step of a job of more than two warms up and
// does not count.
struct BackendTime {
  std::string backend;
  int steps = 0;
  double median = 0, fastest = 0, slowest = 0;  // seconds a step
  bool emulated = false;                        // sage2 on a CPU: its clock is not the GPU's
};
std::vector<BackendTime> backend_times(const std::vector<const Job*>& jobs);

// Seconds of a phase, all of its turns together, in the order in which they first came.
struct PhaseSum {
  std::string name;
  double seconds = 0;
  bool goes_on = false;
};
std::vector<PhaseSum> phase_sums(const Job& job, double now);

// Of one result against the first of the canvas; and how far the first is from itself made again.
struct QualityRow {
  std::string pair;                          // "B to A"
  std::string psnr, ssim, worst, identical;  // worst: "frame 3: 31.2 dB"; identical: "2 of 17"
  std::string problem;                       // instead of figures
};
struct QualityTable {
  std::vector<QualityRow> rows;
  QualityRow floor;  // "A again"; problem: why there is none yet
  Id first = 0;      // what would have to be made again; 0: nothing to ask for
};
QualityTable quality_table(const State& state);

}  // namespace sagelab::ui
