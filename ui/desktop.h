// SPDX-License-Identifier: Apache-2.0
// All panels in their places: prompt left, canvas in the middle, queue below it, attention and metrics right.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ui/actions.h"
#include "ui/texture.h"

namespace sagelab::ui {

class Desktop {
 public:
  Desktop();
  ~Desktop();
  // The whole window's content. actions: must outlive this, since a file dialog may answer frames later.
  void draw(const State& state, Actions& actions, Textures& textures);
  // Files dropped on the window, or a path pasted into it: a model folder, a file of ours, or a prompt file.
  void take_files(const std::vector<std::string>& files, Actions& actions);
  // Seconds from the time of this frame after which something changes on its own; negative: only an event can
  // change it.
  double redraw_after(const State& state) const;
  // Text size and colours, as the menu shows them.
  void set_look(bool dark, float scale) { dark_ = dark, scale_ = scale; }
  void rescale() { arranged_ = false, afresh_ = true; }  // panels that fit a new text size

 private:
  struct Panels;
  void draw_menu(const State& state, Actions& actions);
  void draw_file_menu(const State& state, Actions& actions);
  void draw_view_menu(Actions& actions);
  void draw_status(const State& state);
  void arrange(unsigned dock);
  void draw_panels(const State& state, Actions& actions, Textures& textures);
  void paste(Actions& actions);

  std::unique_ptr<Panels> panels_;
  size_t backends_ = 0;  // whose colours are told apart
  bool arranged_ = false, afresh_ = false, narrow_ = false, dark_ = true;
  float scale_ = 1;
  int front_ = 0;  // frames until the panels that one starts with are put in front
};

}  // namespace sagelab::ui
