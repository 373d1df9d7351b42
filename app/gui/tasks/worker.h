// SPDX-License-Identifier: Apache-2.0
// Slow work of the window beside the session: a thread, tasks in order, and what each of them changes in the
// state, which the window's own thread applies.
#pragma once

#include <atomic>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ui/platform/mailbox.h"

namespace sagelab::gui {

class Program;
using Apply = std::function<void(Program&)>;  // runs on the window's thread
using Work = std::function<Apply()>;          // runs on a worker's thread; an empty Apply changes nothing

// What workers have for the window's thread.
class Inbox {
 public:
  explicit Inbox(std::function<void()> wake) : wake_(std::move(wake)) {}
  void post(Apply apply);
  std::vector<Apply> take() { return posted_.take(); }

 private:
  ui::Mailbox<Apply> posted_;
  std::function<void()> wake_;
};

class Worker {
 public:
  // What a task throws becomes failed(error) in its place.
  using Failure = std::function<Apply(std::exception_ptr)>;
  Worker(Inbox& inbox, Failure failed);
  ~Worker();  // finishes the task at hand and those that must not be lost; drops the others
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // key: a task of the same key that has not begun is replaced; empty: none is. Of one thread's only.
  // keep: done even if the program ends first.
  void add(const std::string& key, Work work, bool keep = false);
  void wait_idle();  // for tests: until all that was added is done

 private:
  // Work that who comes first has: the thread, or what replaces it.
  class Held {
   public:
    explicit Held(Work work) : work_(new Work(std::move(work))) {}
    ~Held() { take(); }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    std::unique_ptr<Work> take() { return std::unique_ptr<Work>(work_.exchange(nullptr)); }

   private:
    std::atomic<Work*> work_;
  };
  struct Task {
    std::shared_ptr<Held> held;
    bool keep = false;
  };
  void run();
  Inbox& inbox_;
  Failure failed_;
  std::map<std::string, std::weak_ptr<Held>> latest_;  // by key; of who adds
  ui::Mailbox<Task> added_;
  std::atomic<bool> ending_ = false;
  std::deque<Task> tasks_;  // the thread's own
  std::jthread thread_;
};

}  // namespace sagelab::gui
