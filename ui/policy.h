// SPDX-License-Identifier: Apache-2.0
// A policy of attention as a grid of layers x step ranges, and the schedule(...) that says the same.
#pragma once

#include <string>
#include <vector>

namespace sagelab::ui {

// columns: where each range of steps starts, the first at 0. cells: for each column, a spec for each layer.
struct Policy {
  int steps = 0, layers = 0;
  std::vector<int> columns;
  std::vector<std::vector<std::string>> cells;
};

// Every cell is spec; ranges of steps as equal as they can be. Nothing where steps or layers is 0.
Policy make_policy(int steps, int layers, int ranges, const std::string& spec);
// The same picture over another number of steps: as many ranges, or one for each step where there are fewer.
Policy with_steps(const Policy& policy, int steps);
// The first step of a column, and the first after it.
int first_step(const Policy& policy, size_t column);
int end_step(const Policy& policy, size_t column);
// The column of a step; the last one for a step beyond it.
size_t column_of(const Policy& policy, int step);
// A spec that serves each cell by its own: "sage2" where all are one, else schedule(...), with a
// schedule by layers inside a range of steps. Steps beyond the last column, and layers beyond the last, are
// served as that one is.
std::string spec_of(const Policy& policy);
// spec_of with one layer put on `spec` at every step.
Policy with_layer(Policy policy, int layer, const std::string& spec);

}  // namespace sagelab::ui
