// SPDX-License-Identifier: Apache-2.0
// The figures of what is compared and of what runs: clock, phases, errors by layer, memory, quality.
#pragma once

#include "ui/actions.h"
#include "ui/metrics/error_map.h"
#include "ui/metrics/figures.h"

namespace sagelab::ui {

class MetricsPanel {
 public:
  void draw(const State& state, Actions& actions);
  const ErrorMap& errors() const { return errors_; }

 private:
  void draw_errors(const State& state, const std::vector<const Job*>& jobs, Actions& actions);
  ErrorMap errors_;
  Id chosen_ = 0;  // whose errors are shown, where several were measured
};

// The table of State's figures, with the floor below; a button makes the floor where there is none.
void draw_quality(const QualityTable& table, Actions& actions);

}  // namespace sagelab::ui
