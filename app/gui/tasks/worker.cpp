// SPDX-License-Identifier: Apache-2.0
#include "app/gui/tasks/worker.h"

#include <exception>
#include <future>
#include <utility>

namespace sagelab::gui {

void Inbox::post(Apply apply) {
  posted_.post(std::move(apply));
  wake_();
}

Worker::Worker(Inbox& inbox, Failure failed) : inbox_(inbox), failed_(std::move(failed)) {
  thread_ = std::jthread([this] { run(); });
}

Worker::~Worker() {
  ending_ = true;
  add("", []() -> Apply { return {}; });  // it may be waiting
  thread_.join();
}

void Worker::add(const std::string& key, Work work, bool keep) {
  const auto held = std::make_shared<Held>(std::move(work));
  if (!key.empty()) {
    auto& latest = latest_[key];
    if (const auto waits = latest.lock()) waits->take();  // at once: much may be added while a task is done
    latest = held;
  }
  added_.post({held, keep});
}

void Worker::wait_idle() {
  std::promise<void> done;
  auto reached = done.get_future();
  add("", [&]() -> Apply { return done.set_value(), Apply(); });
  reached.wait();
}

void Worker::run() {
  for (;;) {
    const bool ending = ending_;  // before the look at what was added: nothing comes after that
    for (auto& task : added_.take()) tasks_.push_back(std::move(task));
    if (ending) std::erase_if(tasks_, [](const Task& task) { return !task.keep; });
    if (tasks_.empty()) {
      if (ending) return;
      added_.wait();
      continue;
    }
    const auto work = tasks_.front().held->take();
    tasks_.pop_front();
    if (!work) continue;  // replaced
    Apply apply;
    try {
      apply = (*work)();
    } catch (...) {
      apply = failed_(std::current_exception());
    }
    if (apply) inbox_.post(std::move(apply));
  }
}

}  // namespace sagelab::gui
