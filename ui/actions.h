// SPDX-License-Identifier: Apache-2.0
// All that a person can ask for. Panels push; the app does it, once the frame is drawn.
#pragma once

#include <array>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "ui/state.h"

namespace sagelab::ui {

namespace action {

struct Edit {  // the request under edit is this now
  Request request;
};
struct SelectModel {
  std::string path;
};
struct AddModelFolder {
  std::string path;
};
struct ForgetModel {
  std::string path;
};
struct FitSize {};    // the nearest size that the model can make
struct RestoreFrom {  // all settings of one of our files
  std::string file;
};
struct ImportPrompts {  // a job for each prompt of a file
  std::string file;
};
struct Generate {};  // the request under edit, as a job at the end of the queue
// The request under edit with each of the specs: from the same noise, and the first one twice.
struct GenerateBoth {
  std::vector<std::string> specs;
};
struct Cancel {
  Id job = 0;
};
struct Retry {  // again, at the end of the queue; from its latents where they are finished
  Id job = 0;
};
struct Repeat {  // result once more, so that State::floor tells how far two equal runs are apart
  Id result = 0;
};
struct Move {  // a waiting job, by so many places: -1 is one earlier
  Id job = 0;
  int by = 0;
};
struct Remove {  // a job that does not run, and its result
  Id job = 0;
};
struct Pause {  // or go on: waiting jobs are not started
  bool paused = true;
};
struct SetAttention {  // of the job that runs, from its next forward on; else of the request under edit
  std::string spec;
  bool next = false;  // of the request under edit, though a job runs
};
struct SetPolicy {
  Policy policy;
};
struct Compare {  // what the canvas shows; 0: nothing
  std::array<Id, 3> ids{};
};
struct Measure {  // State::quality(a, b)
  Id a = 0, b = 0;
};
struct Export {
  enum class Kind { Mp4, Png, SideBySide, Report };
  Kind kind = Kind::Mp4;
  std::vector<Id> results;  // one for Mp4 and Png; a, b, ... for the others
  int frame = 0;            // of a Png
  std::string path;         // a file; for Report an .html
};
struct DismissDialog {};
struct Close {};        // the window's own button: asks where something runs
struct CloseAnyway {};  // cancels what runs; waiting jobs are there at the next start
struct KeepOpen {};
struct SetLook {  // of the window
  bool dark = true;
  float scale = 1;
};

}  // namespace action

using Action = std::variant<action::Edit, action::SelectModel, action::AddModelFolder, action::ForgetModel,
                            action::FitSize, action::RestoreFrom, action::ImportPrompts, action::Generate,
                            action::GenerateBoth, action::Cancel, action::Retry, action::Repeat, action::Move,
                            action::Remove, action::Pause, action::SetAttention, action::SetPolicy,
                            action::Compare, action::Measure, action::Export, action::DismissDialog,
                            action::Close, action::CloseAnyway, action::KeepOpen, action::SetLook>;

class Actions {
 public:
  template <typename T>
  void push(T action) {
    all_.emplace_back(std::move(action));
  }
  const std::vector<Action>& all() const { return all_; }
  std::vector<Action> take() { return std::exchange(all_, {}); }

 private:
  std::vector<Action> all_;
};

// Of the actions that take a file, the one that fits its name: .txt .csv .jsonl are prompts, .mp4 .png .json
// are files of ours, all else is a model folder.
Action action_for_file(const std::string& path);
// "file:///a%20b" -> "/a b"; any other text is a path if it starts with / or ~/, else empty.
std::string path_in(const std::string& pasted);

}  // namespace sagelab::ui
