// SPDX-License-Identifier: Apache-2.0
// Model folders as the window shows them, and what a request of one would take.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "app/gui/tasks/speeds.h"
#include "app/session.h"
#include "pipelines/registry.h"
#include "ui/state.h"

namespace sagelab::gui {

// What is wrong with a folder is said in its problem; nothing is thrown.
ui::ModelChoice model_choice(const std::string& path, const Session::FindFamily& find_family);
// The demo's, with its prompt, steps and guidance.
ui::ModelChoice bundled_choice(const std::string& path, const Session::FindFamily& find_family);
// Of the chosen model: its own values, fewer steps, one picture.
std::vector<ui::Preset> presets_of(const ui::ModelChoice& model);

// What the plan of a resolved request says of a run, for Speeds.
Speeds::Run run_of(const Request& resolved, const Plan& plan);

// All that the window wants to know of a request before it runs.
struct Outlook {
  ui::Estimate estimate;
  std::vector<ui::BackendChoice> backends;
};
// What is wrong with it is said in estimate.error; nothing is thrown.
Outlook outlook_of(const Request& request, const Session::FindFamily& find_family, const Speeds& speeds);
// Every entry of backends(), with the reason why it cannot serve these problems.
std::vector<ui::BackendChoice> backends_for(const std::vector<attention::Problem>& problems,
                                            const at::Device& device);

}  // namespace sagelab::gui
