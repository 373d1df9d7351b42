// SPDX-License-Identifier: Apache-2.0
// The compare canvas: two or three results, or one and what is being made, by one clock and in one view.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "ui/actions.h"
#include "ui/compare/clips.h"
#include "ui/compare/differences.h"
#include "ui/compare/keys.h"
#include "ui/compare/maths/layout.h"
#include "ui/texture.h"

namespace sagelab::ui {

// Of the wheel and of a key: two of them double the size.
inline constexpr double kNotch = 1.4142135623730951;
inline constexpr double kLeastGain = 1, kMostGain = 64;

class Canvas {
 public:
  // wake: called by another thread when there is something new to be drawn.
  explicit Canvas(std::function<void()> wake = [] {}) : differences_(std::move(wake)) {}
  // Fills the window it is called in. Asks for figures (action::Measure) of what it compares.
  void draw(const State& state, Actions& actions, Textures& textures);
  // What a key does.
  void apply(Command command, const State& state, Actions& actions);
  // Seconds from the time of this frame after which something changes by itself; negative: nothing does.
  double redraw_after() const;
  void wait_idle() { differences_.wait_idle(); }  // for tests: until all differences are made

  const Clock& clock() const { return clock_; }
  const View& view() const { return view_; }
  const Arrangement& arrangement() const { return arrangement_; }
  const DifferenceLook& look() const { return look_; }
  bool helps() const { return help_; }
  int frame_of(Id result) const;  // that is in sight; 0 where it is not compared
  // As last drawn, on the screen.
  const std::vector<Pane>& panes() const { return panes_; }
  const Box& area() const { return area_; }
  const std::string& under_cursor() const { return readout_; }
  int labelled_pixels() const { return labelled_; }
  int differences_made() const { return differences_.made(); }

 private:
  void draw_toolbar(const State& state, Actions& actions);
  void draw_chooser(const State& state, Actions& actions, size_t place);
  void draw_modes(const State& state, Actions& actions);
  void draw_gain(const State& state, Actions& actions);
  void draw_area(const State& state, Textures& textures);
  void draw_pane(const Pane& pane, Textures& textures);
  void draw_picture(const Pane& pane, ImTextureID texture);
  void draw_labels(const State& state);
  void draw_empty(const State& state, float height);
  void take_mouse();
  void take_keys(const State& state, Actions& actions);
  bool apply_time(Command command, const State& state);
  bool apply_mode(Command command);
  bool apply_zoom(Command command);
  void apply_look(Command command);
  void zoom_to(double times);
  void toggle_difference();
  void pick(int place);
  void ask_for_figures(const State& state, Actions& actions);
  Point zoom_anchor() const;
  const Box& zoom_pane() const;

  Clock clock_;
  View view_;
  Arrangement arrangement_;
  Mode before_ = Mode::Split;   // before one was picked alone
  Mode without_ = Mode::Split;  // before the difference
  DifferenceLook look_;
  Differences differences_;
  std::vector<Clip> clips_;
  std::vector<Id> unfinished_;
  std::vector<Pane> panes_;
  Box area_;
  std::string readout_;
  std::set<std::pair<Id, Id>> asked_;
  int dragged_line_ = -1, labelled_ = 0;
  bool panning_ = false, labels_ = true, help_ = false, hovered_ = false;
};

}  // namespace sagelab::ui
