// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/differences.h"

#include <algorithm>
#include <utility>

namespace sagelab::ui {

Differences::Differences(std::function<void()> made) : tell_(std::move(made)), thread_([this] { run(); }) {}

Differences::~Differences() {
  ending_ = true;
  wishes_.post({});  // it may be waiting
  thread_.join();
}

std::shared_ptr<const Picture> Differences::of(size_t place, const Wanted& wanted) {
  auto& latest = latest_.at(place);
  if (latest && latest->of == wanted) return latest->picture;
  take_made();
  const auto kept =
      std::find_if(kept_.begin(), kept_.end(), [&](const auto& made) { return made && made->of == wanted; });
  if (kept != kept_.end()) {
    latest = *kept;
    if (asked_[place]) want(place, {});
  } else if (asked_[place] != wanted) {
    want(place, wanted);
  }
  return latest ? latest->picture : nullptr;
}

void Differences::want(size_t place, std::optional<Wanted> wanted) {
  asked_[place] = wanted;
  wishes_.post({place, std::move(wanted)});
}

void Differences::free(std::shared_ptr<const Made> old) {
  if (old) wishes_.post({.old = std::move(old)});
}

void Differences::take_made() {
  for (auto& made : done_.take()) {
    auto& asked = asked_[made->place];
    if (!asked) {  // nobody looks any more
      free(std::move(made));
      continue;
    }
    if (*asked == made->of) asked.reset();
    free(std::exchange(latest_[made->place], made));
    free(std::exchange(kept_[next_++ % kKept], std::move(made)));
  }
}

void Differences::clear() {
  for (size_t place = 0; place < kPlaces; ++place)
    if (asked_[place]) want(place, {});
  done_.take();
  latest_ = {};
  kept_ = {};
}

void Differences::wait_idle() {
  const auto idle = std::make_shared<std::promise<void>>();
  auto reached = idle->get_future();
  wishes_.post({.idle = idle});
  reached.wait();
}

void Differences::sort_in() {
  for (auto& wish : wishes_.take()) {
    if (wish.place < kPlaces) wanted_[wish.place] = std::move(wish.wanted);
    if (wish.idle) idle_.push_back(std::move(wish.idle));
  }
}

// In turn, so that neither place waits for the other's last wish.
size_t Differences::next_place() const {
  for (size_t i = 1; i <= kPlaces; ++i)
    if (const size_t place = (last_place_ + i) % kPlaces; wanted_[place]) return place;
  return kPlaces;
}

void Differences::run() {
  for (;;) {
    sort_in();
    if (ending_) return;  // after the look: the letter that said so may be taken
    const size_t place = next_place();
    if (place == kPlaces) {
      for (auto& idle : std::exchange(idle_, {})) idle->set_value();
      wishes_.wait();
      continue;
    }
    last_place_ = place;
    const Wanted wanted = *wanted_[place];
    auto picture =
        std::make_shared<const Picture>(difference_picture(wanted.shown, wanted.against, wanted.look));
    ++made_;
    sort_in();
    if (wanted_[place] == wanted) wanted_[place].reset();
    done_.post(std::make_shared<const Made>(Made{place, wanted, std::move(picture)}));
    tell_();
  }
}

}  // namespace sagelab::ui
