// SPDX-License-Identifier: Apache-2.0
// The desktop's own file dialogs (by zenity, kdialog ...); where it has none, or they fail, a window that
// asks for a path and lists what is there.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ui/platform/paths.h"

namespace sagelab::ui {

class FileDialog {
 public:
  using Kind = PathKind;
  using Chosen = std::function<void(const std::string& path)>;
  struct Wish {
    Kind kind = Kind::Open;
    std::string title, suggested;      // suggested: a path to start with, or a name
    std::vector<std::string> filters;  // pairs of a name and patterns: "Videos", "*.mp4 *.png"
    Chosen chosen;
  };

  FileDialog();
  ~FileDialog();  // the desktop's dialog goes with it
  // One at a time: a second wish while one is open has no effect.
  void open(Wish wish);
  // Once a frame; calls chosen with what was picked, and not at all where nothing was.
  void draw();
  bool is_open() const { return wish_ != nullptr; }
  bool is_own() const { return wish_ && !native_; }  // the window's own asks

 private:
  struct Native;
  void poll_native();
  void draw_own();
  bool draw_names();  // whether one was clicked twice
  void take();
  std::unique_ptr<Wish> wish_;
  std::unique_ptr<Native> native_;
  std::string folder_;  // of what was chosen last
  // Of the own window: what is typed, what is said of it, the names there, and for which path they were read.
  std::string path_, said_;
  std::vector<std::string> names_;
  std::optional<std::string> listed_;
  bool opened_ = false, focus_ = false;
};

}  // namespace sagelab::ui
