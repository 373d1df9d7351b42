// SPDX-License-Identifier: Apache-2.0
// Pictures of what differs, made by a thread of their own: those of large clips take longer than a frame of
// the window may.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "ui/compare/maths/pixels.h"
#include "ui/platform/mailbox.h"

namespace sagelab::ui {

struct Wanted {
  Shot shown, against;
  DifferenceLook look;
  bool operator==(const Wanted&) const = default;
};

class Differences {
 public:
  // made: called by the other thread when there is something new to be seen.
  explicit Differences(std::function<void()> made);
  ~Differences();
  Differences(const Differences&) = delete;
  Differences& operator=(const Differences&) = delete;

  // In a place, one for each pane, the picture of what is wanted; until that is made, the latest that was
  // there, or null. Of wishes that came while another was at work only the last of each place is made.
  std::shared_ptr<const Picture> of(size_t place, const Wanted& wanted);
  void clear();  // none is shown: none is kept
  int made() const { return made_; }
  void wait_idle();  // for tests: until all that is wanted is made

 private:
  static constexpr size_t kPlaces = 2, kKept = 4;  // what two panes show, and what they showed before
  struct Made {
    size_t place = 0;
    Wanted of;
    std::shared_ptr<const Picture> picture;
  };
  struct Wish {
    size_t place = kPlaces;                              // kPlaces: of none, the rest is what it is about
    std::optional<Wanted> wanted = std::nullopt;         // nothing: what was wanted no longer is
    std::shared_ptr<const Made> old = nullptr;           // to be freed
    std::shared_ptr<std::promise<void>> idle = nullptr;  // fulfilled once nothing is wanted
  };
  using Wishes = std::array<std::optional<Wanted>, kPlaces>;

  // The window's own.
  void take_made();
  void want(size_t place, std::optional<Wanted> wanted);
  void free(std::shared_ptr<const Made> old);  // by the thread: they are large
  Wishes asked_;
  std::array<std::shared_ptr<const Made>, kPlaces> latest_;
  std::array<std::shared_ptr<const Made>, kKept> kept_;
  size_t next_ = 0;

  // The thread's own.
  void run();
  void sort_in();
  size_t next_place() const;  // of what is wanted; kPlaces: nothing is
  Wishes wanted_;
  size_t last_place_ = 0;
  std::vector<std::shared_ptr<std::promise<void>>> idle_;

  std::function<void()> tell_;
  Mailbox<Wish> wishes_;
  Mailbox<std::shared_ptr<const Made>> done_;
  std::atomic<int> made_ = 0;
  std::atomic<bool> ending_ = false;
  std::jthread thread_;
};

}  // namespace sagelab::ui
