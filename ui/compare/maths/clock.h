// SPDX-License-Identifier: Apache-2.0
// One time for all that is compared: each clip shows the frame that is due, whatever its rate and length.
#pragma once

namespace sagelab::ui {

// How a clip lies in time: frames of 1 / fps seconds each, from 0 on.
struct ClipTime {
  double fps = 8;
  int frames = 0;
};

double seconds_of(const ClipTime& clip);
// The frame that is due at a time; before the start the first, after the end the last; 0 of an empty clip.
int frame_at(const ClipTime& clip, double seconds);
// When a frame begins.
double time_of(const ClipTime& clip, int frame);

class Clock {
 public:
  // The clip whose frames are stepped through and which says when it is over: the longest of those shown, and
  // of these the one of the highest rate.
  void set_clip(const ClipTime& clip);
  // Once a frame of the window; now: seconds of any steady clock.
  void tick(double now);
  void play(bool on);         // from the start again where it had run out
  void play_once();           // from the start to the end and no further, until somebody moves it
  void loop(bool on);         // what plays once, too
  void step(int frames);      // stops; beyond an end it goes on at the other one if it loops, else it stays
  void seek(double seconds);  // within the clip; what play(true) began goes on
  void seek_frame(int frame);
  void faster(int notches);  // speed doubles with each, halves with negative ones: 1/8 to 8

  // Seconds from the last tick until this clip shows another frame, or the clock starts again or stands
  // still; negative: it stands.
  double until_change(const ClipTime& clip) const;

  bool playing() const { return playing_; }
  bool loops() const { return loops_ && !once_; }
  // It stands at the first frame, or at the last of what was its clip when it came there, whoever brought it
  // there: nobody stopped at a frame between.
  bool rests() const { return !playing_ && (at_end_ || frame() == 0); }
  double time() const { return time_; }
  double speed() const { return speed_; }
  double length() const { return seconds_of(clip_); }
  int frame() const { return frame_at(clip_, time_); }
  int frames() const { return clip_.frames; }
  const ClipTime& clip() const { return clip_; }

 private:
  bool plays() const { return clip_.frames > 1 && length() > 0; }
  ClipTime clip_;
  double time_ = 0, last_ = -1, speed_ = 1;
  bool playing_ = false, loops_ = true, once_ = false, at_end_ = false;
};

}  // namespace sagelab::ui
