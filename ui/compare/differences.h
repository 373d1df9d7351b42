// SPDX-License-Identifier: Apache-2.0
// Pictures of what differs, made by a thread of their own: those of large clips take longer than a frame of
// the window may.
#pragma once

#include <array>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "ui/compare/maths/pixels.h"

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
  Differences(const Differences&) = delete;
  Differences& operator=(const Differences&) = delete;

  // In a place, one for each pane, the picture of what is wanted; until that is made, the latest that was
  // there, or null. Of wishes that came while another was at work only the last of each place is made.
  std::shared_ptr<const Picture> of(size_t place, const Wanted& wanted);
  void clear();  // none is shown: none is kept
  int made() const;
  void wait_idle();  // for tests: until all that is wanted is made

 private:
  struct Made {
    Wanted of;
    std::shared_ptr<const Picture> picture;
  };
  static constexpr size_t kPlaces = 2, kKept = 4;  // what two panes show, and what they showed before

  void run(const std::stop_token& stop);
  size_t next_place() const;  // of what is wanted; kPlaces: nothing is
  void take(size_t place, std::shared_ptr<const Made> made);

  std::array<std::shared_ptr<const Made>, kPlaces> latest_;  // the window's own
  bool used_ = false;                                        // since clear(); the window's own too
  std::function<void()> tell_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_, idle_;
  std::array<std::optional<Wanted>, kPlaces> wanted_;
  std::array<std::shared_ptr<const Made>, kPlaces> done_;  // what the window has not taken yet
  std::array<std::shared_ptr<const Made>, kKept> kept_;
  size_t next_ = 0, last_place_ = 0;
  int made_ = 0;
  bool working_ = false;
  std::jthread thread_;
};

}  // namespace sagelab::ui
