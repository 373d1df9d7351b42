// SPDX-License-Identifier: Apache-2.0
// Which results can be written together, and how.
#pragma once

#include <string>
#include <vector>

#include "ui/actions.h"

namespace sagelab::ui {

// Those of the canvas that are finished, in its order.
std::vector<Id> finished_in_canvas(const State& state);
// Why these cannot be written so, with what to do; empty where they can.
std::string export_problem(const State& state, action::Export::Kind kind, const std::vector<Id>& results);
// What two runs were asked for otherwise, attention apart: "seed, steps"; empty where nothing is.
std::string different_settings(const Request& a, const Request& b);

}  // namespace sagelab::ui
