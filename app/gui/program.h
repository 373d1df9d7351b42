// SPDX-License-Identifier: Apache-2.0
// Everything behind the window: the session, slow work beside it, the queue, and what outlives a crash. All
// members belong to the window's thread. Nothing here waits for a worker, but the destructor.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/gui/tasks/comparisons.h"
#include "app/gui/tasks/models.h"
#include "app/gui/tasks/store.h"
#include "app/gui/tasks/worker.h"
#include "app/session.h"
#include "ui/actions.h"

namespace sagelab::gui {

struct Setup {
  std::filesystem::path folder;  // of the state; empty: nothing outlives the program
  std::string bundled_model;     // empty: there is none
  std::function<void()> wake = [] {};
  Session::FindFamily find_family = family_of;
  std::function<double()> clock = {};  // seconds; empty: since the program started
};

struct Look {
  bool dark = true;
  float scale = 1;
};

class Program {
 public:
  explicit Program(Setup setup);
  ~Program();  // cancels what runs, and waits for it
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  ui::State& state() { return state_; }
  const Look& look() const { return look_; }
  // Once a frame: what workers said goes into the state, the next job starts, the state is saved.
  void update();
  void execute(const std::vector<ui::Action>& actions);
  bool finished() const;  // the window may go
  // Seconds in which a frame waited for the session's worker. For the others none does: they hold no lock of
  // ours that it takes.
  double longest_lock_wait() const { return session_.longest_wait(); }
  void wait_idle();  // for tests: until no slow work is left; its results still await update()

  // For what runs on the workers' behalf.
  void say(ui::Dialog dialog) { state_.dialogs.push_back(std::move(dialog)); }
  void task_done(ui::Id task);

 private:
  struct Doing;  // an overload for each action
  friend struct Doing;

  void listen(const std::stop_token& stop);
  void fold_progress(const Progress& progress);
  void job_ended(ui::Job& job);
  void start_next();
  void sample_memory();
  void restore();
  void restore_state(const nlohmann::json& saved);
  void load_results();
  void save();
  nlohmann::json saved_state() const;

  ui::Id add_job(Request request, ui::Id repeats = 0);
  void add_model(const std::string& path, bool select);
  void select(const std::string& path);
  void take_request(const Request& request);  // of a file of ours
  void request_changed();
  void outlook_came(Outlook outlook);
  void measure(ui::Id a, ui::Id b);
  // Slow work that is shown as a task while it goes on.
  void start_task(const std::string& what, Work work);

  Setup setup_;
  ui::State state_;
  Look look_;
  ui::Policy painted_;  // the policy as it was painted; the state's may be over other steps
  std::optional<Store> store_;
  Speeds speeds_;
  Comparisons comparisons_;
  ui::Id last_id_ = 0, last_task_ = 0;
  uint64_t edits_ = 0;    // of the request, so that an outlook of an earlier one is told apart
  bool changed_ = false;  // since the state was saved
  double memory_at_ = -1;
  Inbox inbox_;
  Session session_;
  Worker quick_, slow_;    // estimates and models; files and metrics
  std::jthread listener_;  // moves what the session says into the inbox
};

}  // namespace sagelab::gui
