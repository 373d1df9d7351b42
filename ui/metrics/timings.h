// SPDX-License-Identifier: Apache-2.0
// What the clock and the memory say: plots of steps and memory, bars of phases.
#pragma once

#include <vector>

#include "ui/state.h"

namespace sagelab::ui {

// Each job a line over its steps, in the colours of who served them, a line across where it was switched.
void draw_steps(const State& state, const std::vector<const Job*>& jobs, float height);
// A row for each backend: steps, median, range.
void draw_backend_times(const std::vector<const Job*>& jobs);
// A bar for each job, of one scale: load, encode, denoise, decode.
void draw_phases(const State& state, const std::vector<const Job*>& jobs);
void draw_memory(const std::vector<MemorySample>& memory, float height);

}  // namespace sagelab::ui
