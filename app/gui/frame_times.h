// SPDX-License-Identifier: Apache-2.0
// What frames of the window take of its thread. Thread processor time tells the window's own work from that
// of whoever else is on the machine; the clock tells what a person waits for.
#pragma once

#include <array>
#include <string>
#include <vector>

namespace sagelab::gui {

// Of a frame, in order. Show is GL and the wait for the screen, and no own work.
enum class Part { Update, Begin, Draw, Finish, Show, Execute };
inline constexpr size_t kParts = 6;

struct Span {
  double processor = 0, clock = 0;  // seconds
};

struct FrameTime {
  std::array<Span, kParts> parts;
  Span own() const;  // without Show
};

// Of one frame: each end() says whose the time since the one before it was.
class FrameTimer {
 public:
  FrameTimer();
  void end(Part part);
  const FrameTime& time() const { return time_; }

 private:
  FrameTime time_;
  Span last_;
};

// Of many frames, in a fixed amount of memory.
class FrameTimes {
 public:
  void add(const FrameTime& frame);
  int frames() const { return frames_; }
  // Seconds of processor for own work. A part of all frames took at most this, to 10 us.
  double own_at(double part) const;
  double longest_own() const { return slowest_.own().processor; }
  double mean_own() const;
  const FrameTime& slowest() const { return slowest_; }
  // "812 frames, own work 0.31 ms of processor on average, 0.90 ms for 99 of 100, 3.20 ms at most
  // (draw 2.90); by the clock 5.10 ms at most"
  std::string text() const;

 private:
  std::vector<int> counts_;  // of frames by own work, 10 us each; the last: all that took longer
  FrameTime slowest_;
  double sum_ = 0, longest_clock_ = 0;
  int frames_ = 0;
};

// Seconds since the system started this process, to 10 ms.
double process_age();

}  // namespace sagelab::gui
