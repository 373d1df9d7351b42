// SPDX-License-Identifier: Apache-2.0
#include "app/gui/tasks/worker.h"

#include <algorithm>
#include <exception>
#include <utility>

namespace sagelab::gui {

void Inbox::post(Apply apply) {
  {
    const std::scoped_lock lock(mutex_);
    waiting_.push_back(std::move(apply));
  }
  wake_();
}

std::vector<Apply> Inbox::take() {
  const std::scoped_lock lock(mutex_);
  return std::exchange(waiting_, {});
}

Worker::Worker(Inbox& inbox, Failure failed) : inbox_(inbox), failed_(std::move(failed)) {
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

Worker::~Worker() {
  {
    const std::scoped_lock lock(mutex_);
    std::erase_if(tasks_, [](const Task& task) { return !task.keep; });
  }
  thread_.request_stop();
  thread_.join();
}

void Worker::add(const std::string& key, Work work, bool keep) {
  const std::scoped_lock lock(mutex_);
  if (!key.empty()) std::erase_if(tasks_, [&](const Task& task) { return task.key == key; });
  tasks_.push_back({key, std::move(work), keep});
  changed_.notify_one();
}

void Worker::wait_idle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return tasks_.empty() && !working_; });
}

void Worker::run(const std::stop_token& stop) {
  for (;;) {
    Task task;
    {
      std::unique_lock lock(mutex_);
      working_ = false;
      if (tasks_.empty()) idle_.notify_all();
      changed_.wait(lock, stop, [this] { return !tasks_.empty(); });
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
      working_ = true;
    }
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
