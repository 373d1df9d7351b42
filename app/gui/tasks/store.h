// SPDX-License-Identifier: Apache-2.0
// What outlives the window, in one folder: state.json (models, request, queue, look), latents/ of runs that
// have not ended, results/ of those that have. Every file appears whole or not at all.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "app/gui/tasks/comparisons.h"
#include "ui/state.h"

namespace sagelab::gui {

// $XDG_STATE_HOME/sagelab, or ~/.local/state/sagelab. Throws sagelab::Error where there is no home.
std::filesystem::path state_folder();

// A job and what is known of how it went.
nlohmann::json to_json(const ui::Job& job);
// Of a job that ran when the program ended, it waits again. Throws sagelab::Error and nlohmann's own.
ui::Job job_from_json(const nlohmann::json& json);

class Store {
 public:
  explicit Store(std::filesystem::path folder);  // makes it; throws sagelab::Error
  const std::filesystem::path& folder() const { return folder_; }
  std::string layout() const { return (folder_ / "layout.ini").string(); }
  std::string latents(ui::Id id) const;

  void write_state(const nlohmann::json& state) const;
  // Null where there is none. One that is damaged is put aside under another name, and said in problem.
  nlohmann::json read_state(std::string& problem) const;

  struct Finished {
    ui::Result result;
    ui::Job job;  // that made it
    std::optional<LatentErrors> latents;
  };
  // The frames as they are.
  void write_result(const Finished& finished) const;
  // Throws sagelab::Error for files that are damaged.
  Finished read_result(ui::Id id) const;
  std::vector<ui::Id> results() const;  // in order
  void remove(ui::Id id) const;         // its latents and its result

 private:
  std::filesystem::path file(ui::Id id, const char* ending) const;
  std::filesystem::path folder_;
};

}  // namespace sagelab::gui
