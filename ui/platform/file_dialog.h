// SPDX-License-Identifier: Apache-2.0
// The desktop's own file dialogs (by zenity, kdialog ...); where it has none, a window that asks for a path.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace sagelab::ui {

class FileDialog {
 public:
  enum class Kind { Open, Save, Folder };
  using Chosen = std::function<void(const std::string& path)>;
  struct Wish {
    Kind kind = Kind::Open;
    std::string title, suggested;      // suggested: a path to start with
    std::vector<std::string> filters;  // pairs of a name and patterns: "Videos", "*.mp4 *.png"
    Chosen chosen;
  };

  FileDialog();
  ~FileDialog();
  // One at a time: a second wish while one is open has no effect.
  void open(Wish wish);
  // Once a frame; calls chosen with what was picked, and not at all where nothing was.
  void draw();
  bool is_open() const { return wish_ != nullptr; }

 private:
  struct Native;
  void poll_native();
  void draw_own();
  std::unique_ptr<Wish> wish_;
  std::unique_ptr<Native> native_;
  std::string path_;
  bool opened_ = false;  // the own window, for this wish
};

}  // namespace sagelab::ui
