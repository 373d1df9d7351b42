// SPDX-License-Identifier: Apache-2.0
// Errors that check(a, b) measured, as a map of layers x steps.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "ui/state.h"

namespace sagelab::ui {

enum class ErrorKind { RelativeL1, Cosine, Rmse, MaxAbs };

const char* name_of(ErrorKind kind);
// Cosine: 1 - cosine, so that of every kind more is worse.
double error_of(const Measured& measured, ErrorKind kind);

// One layer at one step. Several calls may fall on it (the guided and the unguided branch): worst is the one
// of the largest error; calls: 0 where nothing was measured.
struct HeatCell {
  Measured worst;
  int calls = 0;
};

struct HeatMap {
  ErrorKind kind = ErrorKind::RelativeL1;
  int steps = 0, layers = 0;    // of the run; one more than the highest that was measured, where that is more
  std::vector<HeatCell> cells;  // [step * layers + layer]
  double least = 0, most = 0;   // of errors above 0; both 0 where there are none
  const HeatCell& at(int step, int layer) const {
    return cells[size_t(step) * size_t(layers) + size_t(layer)];
  }
};

// steps: of the run, so that what is measured as it goes on fills a map that keeps its size.
HeatMap heat_map(const std::vector<Measured>& measured, ErrorKind kind, int steps = 0);
// 0 for the least error and below, 1 for the most, by powers in between: errors span several of ten. NaN
// stays NaN.
double heat_of(double error, const HeatMap& map);

struct HeatPlace {
  int step = -1, layer = -1;
  bool operator==(const HeatPlace&) const = default;
};
// Of a point in a map drawn over [0, width) x [0, height): steps go right, layers go down. {-1, -1} outside.
HeatPlace place_at(const HeatMap& map, double x, double y, double width, double height);
// "layer 5, step 2", who against whom, and all four numbers of the worst call; a line each.
std::string text_of(const HeatMap& map, HeatPlace place);

// The spec that serves as now, but one layer by `backend` at all steps: through the policy where that is what
// serves now or one backend serves all, else by a schedule around what serves now. A check goes on with its
// second backend.
struct LayerChange {
  std::string spec;
  Policy policy;  // the same as a grid; no cells where no grid says it
};
LayerChange put_layer_on(const State& state, int steps, int layers,
                         const std::pair<int, std::string>& layer_on);

}  // namespace sagelab::ui
