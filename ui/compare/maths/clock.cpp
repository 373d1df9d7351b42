// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/maths/clock.h"

#include <algorithm>
#include <cmath>

namespace sagelab::ui {
namespace {

constexpr double kSlowest = 1. / 8, kFastest = 8;
// i / fps * fps may fall short of i by a rounding.
constexpr double kTolerance = 1e-6;

}  // namespace

double seconds_of(const ClipTime& clip) {
  return clip.fps > 0 ? clip.frames / clip.fps : 0;
}

int frame_at(const ClipTime& clip, double seconds) {
  if (clip.frames < 1) return 0;
  const double due = std::floor(seconds * clip.fps + kTolerance);
  return int(std::clamp(due, 0., double(clip.frames - 1)));
}

double time_of(const ClipTime& clip, int frame) {
  return clip.fps > 0 ? frame / clip.fps : 0;
}

void Clock::set_clip(const ClipTime& clip) {
  clip_ = clip;
  time_ = std::clamp(time_, 0., length());
  playing_ = playing_ && plays();
  once_ = once_ && playing_;
}

void Clock::tick(double now) {
  const double passed = last_ < 0 ? 0 : std::max(now - last_, 0.);
  last_ = now;
  if (!playing_) return;
  time_ += passed * speed_;
  if (time_ < length()) return;
  if (loops()) {
    time_ = std::fmod(time_, length());
  } else {
    seek(length());
    playing_ = false;
  }
}

void Clock::play_once() {
  seek(0);
  play(true);
  once_ = playing_;
}

void Clock::play(bool on) {
  once_ = false;
  playing_ = on && plays();
  if (!playing_) return;
  at_end_ = false;
  if (time_ >= length()) time_ = 0;
}

void Clock::loop(bool on) {
  loops_ = on;
  once_ = false;
}

void Clock::step(int frames) {
  playing_ = false;
  if (clip_.frames < 1) return;
  int to = frame() + frames;
  if (loops_) to = (to % clip_.frames + clip_.frames) % clip_.frames;
  seek_frame(to);
}

void Clock::seek(double seconds) {
  if (once_) playing_ = once_ = false;
  time_ = std::clamp(seconds, 0., length());
  at_end_ = frame() == clip_.frames - 1;
}

void Clock::seek_frame(int frame) {
  seek(time_of(clip_, std::clamp(frame, 0, std::max(clip_.frames - 1, 0))));
}

double Clock::until_change(const ClipTime& clip) const {
  if (!playing_) return -1;
  const int next = frame_at(clip, time_) + 1;
  const double at = next < clip.frames ? std::min(time_of(clip, next), length()) : length();
  return std::max(at - time_, 0.) / speed_;
}

void Clock::faster(int notches) {
  speed_ = std::clamp(speed_ * std::exp2(notches), kSlowest, kFastest);
}

}  // namespace sagelab::ui
