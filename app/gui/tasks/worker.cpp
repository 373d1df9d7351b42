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
  added_.post({key, std::move(work), keep});
}

void Worker::wait_idle() {
  std::promise<void> reached;
  add("", [&]() -> Apply { return reached.set_value(), Apply(); });
  reached.get_future().wait();
}

void Worker::sort_in(std::vector<Task> added) {
  for (auto& task : added) {
    if (!task.key.empty()) std::erase_if(tasks_, [&](const Task& waits) { return waits.key == task.key; });
    tasks_.push_back(std::move(task));
  }
}

void Worker::run() {
  for (;;) {
    const bool ending = ending_;  // before the look at what was added: nothing comes after that
    sort_in(added_.take());
    if (ending) std::erase_if(tasks_, [](const Task& task) { return !task.keep; });
    if (tasks_.empty()) {
      if (ending) return;
      added_.wait();
      continue;
    }
    const Task task = std::move(tasks_.front());
    tasks_.pop_front();
    Apply apply;
    try {
      apply = task.work();
    } catch (...) {
      apply = failed_(std::current_exception());
    }
    if (apply) inbox_.post(std::move(apply));
  }
}

}  // namespace sagelab::gui
