// SPDX-License-Identifier: Apache-2.0
// The window of the system: GLFW, OpenGL 3.2 core, one ImGui context. The main thread only, but for wake().
#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

struct GLFWwindow;

namespace sagelab::ui {

// No display, or nothing to draw with.
struct WindowError : std::runtime_error {
  WindowError(const std::string& what, std::string hint_)
      : std::runtime_error(what), hint(std::move(hint_)) {}
  std::string hint;
};

struct WindowOptions {
  std::string title = "sagelab";
  int width = 1440, height = 900;  // at 96 dots per inch; smaller where the screen is
  std::string layout;              // the file that keeps places of panels; empty: none
};

class Window {
 public:
  explicit Window(const WindowOptions& options);  // throws WindowError
  ~Window();
  Window(const Window&) = delete;
  Window& operator=(const Window&) = delete;

  // Returns on an event, on wake() or after so many seconds; negative: waits for as long as it takes.
  void wait(double seconds);
  static void wake();                       // from any thread
  bool take_woken();                        // whether wake() was called since the last time
  bool asked_to_close();                    // by the window's own button, once for each press
  std::vector<std::string> take_dropped();  // files dropped on it since the last call
  std::string clipboard() const;

  void begin();              // a frame
  bool input_waits() const;  // some is left for the next frame
  void finish();             // what is to be drawn is known
  // Draws it. before_swap: with the finished picture still to be read.
  void show(const std::function<void()>& before_swap = {});
  bool visible() const;                   // not minimized
  float display_scale() const;            // pixels at 96 dots per inch
  bool display_scale_changed();           // since the last call
  void set_look(bool dark, float scale);  // scale: the user's own, times the display's
  // The picture as it is now, RGB8 top row first; for tests.
  std::vector<unsigned char> pixels(int& width, int& height) const;
  void resize(int width, int height);
  std::string renderer() const;  // "llvmpipe (LLVM 15.0.6, 256 bits)"
  unsigned gl_error() const;     // 0: none since the last call

 private:
  void make_window(const WindowOptions& options);
  void make_context(const WindowOptions& options);
  GLFWwindow* window_ = nullptr;
  std::vector<std::string> dropped_;
  std::string layout_;
  float last_scale_ = 1;
};

}  // namespace sagelab::ui
