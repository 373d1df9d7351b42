// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/differences.h"

#include <algorithm>
#include <utility>

namespace sagelab::ui {

Differences::Differences(std::function<void()> made)
    : tell_(std::move(made)), thread_([this](const std::stop_token& stop) { run(stop); }) {}

std::shared_ptr<const Picture> Differences::of(size_t place, const Wanted& wanted) {
  used_ = true;
  auto& latest = latest_.at(place);
  if (latest && latest->of == wanted) return latest->picture;
  const std::lock_guard lock(mutex_);
  if (done_[place]) latest = std::move(done_[place]);
  const auto kept =
      std::find_if(kept_.begin(), kept_.end(), [&](const auto& made) { return made && made->of == wanted; });
  if (kept != kept_.end()) {
    latest = *kept;
    wanted_[place].reset();
  } else if (wanted_[place] != wanted) {
    wanted_[place] = wanted;
    changed_.notify_one();
  }
  return latest ? latest->picture : nullptr;
}

void Differences::clear() {
  if (!std::exchange(used_, false)) return;
  latest_ = {};
  decltype(kept_) kept;
  decltype(done_) done;
  const std::lock_guard lock(mutex_);
  wanted_ = {};
  kept.swap(kept_);
  done.swap(done_);
}

int Differences::made() const {
  const std::lock_guard lock(mutex_);
  return made_;
}

void Differences::wait_idle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return !working_ && next_place() == kPlaces; });
}

// In turn, so that neither place waits for the other's last wish.
size_t Differences::next_place() const {
  for (size_t i = 1; i <= kPlaces; ++i)
    if (const size_t place = (last_place_ + i) % kPlaces; wanted_[place]) return place;
  return kPlaces;
}

void Differences::run(const std::stop_token& stop) {
  for (;;) {
    auto made = std::make_shared<Made>();
    {
      std::unique_lock lock(mutex_);
      working_ = false;
      if (next_place() == kPlaces) idle_.notify_all();
      changed_.wait(lock, stop, [&] { return next_place() < kPlaces; });
      if (stop.stop_requested()) return;
      last_place_ = next_place();
      made->of = *wanted_[last_place_];
      working_ = true;
    }
    const auto& [shown, against, look] = made->of;
    made->picture = std::make_shared<const Picture>(difference_picture(shown, against, look));
    take(last_place_, std::move(made));
    tell_();
  }
}

void Differences::take(size_t place, std::shared_ptr<const Made> made) {
  std::shared_ptr<const Made> old;  // large; freed by this thread, with the lock open
  const std::lock_guard lock(mutex_);
  ++made_;
  auto& wanted = wanted_[place];
  if (!wanted) return;  // nobody looks any more
  if (*wanted == made->of) wanted.reset();
  done_[place] = made;
  old = std::exchange(kept_[next_++ % kKept], std::move(made));
}

}  // namespace sagelab::ui
