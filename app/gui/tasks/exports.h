// SPDX-License-Identifier: Apache-2.0
// What the window writes for people: videos, pictures, side by side, a page with everything in it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "app/compare/trajectory.h"
#include "ui/actions.h"

namespace sagelab::gui {

struct Export {
  ui::action::Export::Kind kind = ui::action::Export::Kind::Mp4;
  std::vector<ui::Result> results;       // a, b, ...
  std::optional<ui::Result> again;       // a's repetition: the floor of a report
  std::map<ui::Id, StepErrors> latents;  // of each against a, step by step: only a report takes them
  int frame = 0;
  std::string path;
};

// Writes it whole or not at all; returns where. Throws sagelab::Error.
std::string write_export(const Export& order);

}  // namespace sagelab::gui
