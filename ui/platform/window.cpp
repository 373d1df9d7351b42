// SPDX-License-Identifier: Apache-2.0
#include "ui/platform/window.h"

#define GLFW_INCLUDE_NONE
#include <GL/gl.h>
#include <GLFW/glfw3.h>
#include <fmt/format.h>
#include <imgui.h>
#include <imgui_impl_glfw.h>
#include <imgui_impl_opengl3.h>
#include <imgui_internal.h>
#include <implot.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <utility>

#include "ui/look/fonts.h"
#include "ui/look/theme.h"
#include "ui/platform/events.h"

namespace sagelab::ui {
namespace {

std::string glfw_error;
std::atomic<bool> woken = false;

constexpr const char* kNoDisplay =
    "start it from a desktop session (DISPLAY or WAYLAND_DISPLAY), or use sagelab generate and sagelab "
    "compare";
constexpr const char* kNoGl =
    "install a driver with OpenGL 3.2; Mesa's software renderer will do (Debian: libgl1-mesa-dri)";

void keep_error(int, const char* text) {
  glfw_error = text ? text : "";
}

// Panels are so many dots wide: what fits one display is too narrow for another. "layout-192dpi.ini".
std::string layout_at(const std::string& file, float scale) {
  constexpr float kUsual = 96;  // dots per inch
  const std::filesystem::path path(file);
  if (file.empty() || scale == 1) return file;
  return path.parent_path() /
         fmt::format("{}-{:.0f}dpi{}", path.stem().string(), kUsual * scale, path.extension().string());
}

std::string reason() {
  return glfw_error.empty() ? "" : ": " + glfw_error;
}

}  // namespace

Window::Window(const WindowOptions& options) : layout_(options.layout) {
  glfw_error.clear();
  glfwSetErrorCallback(keep_error);
  if (glfwInit() != GLFW_TRUE) throw WindowError("the window cannot be opened" + reason(), kNoDisplay);
  try {
    make_window(options);
    make_context(options);
  } catch (...) {
    glfwTerminate();
    throw;
  }
}

void Window::make_window(const WindowOptions& options) {
  glfwWindowHint(GLFW_CONTEXT_VERSION_MAJOR, 3);
  glfwWindowHint(GLFW_CONTEXT_VERSION_MINOR, 2);
  glfwWindowHint(GLFW_OPENGL_PROFILE, GLFW_OPENGL_CORE_PROFILE);
  glfwWindowHint(GLFW_OPENGL_FORWARD_COMPAT, GLFW_TRUE);
  glfwWindowHint(GLFW_SCALE_TO_MONITOR, GLFW_TRUE);
  glfwWindowHintString(GLFW_X11_CLASS_NAME, "sagelab");
  glfwWindowHintString(GLFW_X11_INSTANCE_NAME, "sagelab");
  int width = options.width, height = options.height;
  if (auto* monitor = glfwGetPrimaryMonitor()) {
    int x = 0, y = 0, w = 0, h = 0;
    glfwGetMonitorWorkarea(monitor, &x, &y, &w, &h);
    if (w > 0 && h > 0) width = std::min(width, w), height = std::min(height, h);
  }
  window_ = glfwCreateWindow(width, height, options.title.c_str(), nullptr, nullptr);
  if (!window_) throw WindowError("no OpenGL 3.2 window can be made" + reason(), kNoGl);
  glfwSetWindowSizeLimits(window_, 640, 400, GLFW_DONT_CARE, GLFW_DONT_CARE);
  glfwMakeContextCurrent(window_);
  glfwSwapInterval(1);
  glfwSetWindowUserPointer(window_, this);
  glfwSetDropCallback(window_, [](GLFWwindow* window, int count, const char** paths) {
    auto& dropped = static_cast<Window*>(glfwGetWindowUserPointer(window))->dropped_;
    for (int i = 0; i < count; ++i) dropped.emplace_back(paths[i]);
  });
}

void Window::make_context(const WindowOptions&) {
  ImGui::CreateContext();
  ImPlot::CreateContext();
  auto& io = ImGui::GetIO();
  io.ConfigFlags |= ImGuiConfigFlags_DockingEnable;
  io.ConfigWindowsMoveFromTitleBarOnly = true;
  io.ConfigDockingAlwaysTabBar = true;
  io.ConfigInputTextCursorBlink = false;  // a caret that stands needs no redrawing
  last_scale_ = display_scale();
  layout_ = layout_at(layout_, last_scale_);
  io.IniFilename = layout_.empty() ? nullptr : layout_.c_str();
  add_fonts();
  apply_theme(true, last_scale_);
  if (!ImGui_ImplGlfw_InitForOpenGL(window_, true) || !ImGui_ImplOpenGL3_Init("#version 150"))
    throw WindowError("Dear ImGui cannot draw with this OpenGL" + reason(), kNoGl);
  // A first frame that nobody sees makes what Dear ImGui makes once: its shaders, its fonts, its places.
  begin();
  ImGui::EndFrame();
}

Window::~Window() {
  ImGui_ImplOpenGL3_Shutdown();
  ImGui_ImplGlfw_Shutdown();
  ImPlot::DestroyContext();
  ImGui::DestroyContext();
  glfwDestroyWindow(window_);
  glfwTerminate();
}

void Window::wait(double seconds) {
  if (seconds < 0)
    glfwWaitEvents();
  else if (seconds == 0)
    glfwPollEvents();
  else
    glfwWaitEventsTimeout(seconds);
}

void Window::wake() {
  woken = true;
  glfwPostEmptyEvent();
}

bool Window::take_woken() {
  return woken.exchange(false);
}

bool Window::asked_to_close() {
  const bool asked = glfwWindowShouldClose(window_) == GLFW_TRUE;
  glfwSetWindowShouldClose(window_, GLFW_FALSE);
  return asked;
}

std::vector<std::string> Window::take_dropped() {
  return std::exchange(dropped_, {});
}

std::string Window::clipboard() const {
  const char* text = glfwGetClipboardString(window_);
  return text ? text : "";
}

void Window::begin() {
  ImGui_ImplOpenGL3_NewFrame();
  ImGui_ImplGlfw_NewFrame();
  auto& events = ImGui::GetCurrentContext()->InputEventsQueue;
  const int first = first_for_later(events);
  const std::vector<ImGuiInputEvent> later(events.begin() + first, events.end());
  events.resize(first);
  ImGui::NewFrame();
  for (const auto& event : later) events.push_back(event);
}

bool Window::input_waits() const {
  return !ImGui::GetCurrentContext()->InputEventsQueue.empty();
}

void Window::finish() {
  ImGui::Render();
}

void Window::show(const std::function<void()>& before_swap) {
  int width = 0, height = 0;
  glfwGetFramebufferSize(window_, &width, &height);
  glViewport(0, 0, width, height);
  glClearColor(0, 0, 0, 1);
  glClear(GL_COLOR_BUFFER_BIT);
  ImGui_ImplOpenGL3_RenderDrawData(ImGui::GetDrawData());
  if (before_swap) before_swap();
  glfwSwapBuffers(window_);
}

bool Window::visible() const {
  return glfwGetWindowAttrib(window_, GLFW_ICONIFIED) == GLFW_FALSE;
}

float Window::display_scale() const {
  float x = 1, y = 1;
  glfwGetWindowContentScale(window_, &x, &y);
  return std::clamp(x, .5f, 4.f);
}

bool Window::display_scale_changed() {
  return std::exchange(last_scale_, display_scale()) != last_scale_;
}

void Window::set_look(bool dark, float scale) {
  apply_theme(dark, display_scale() * scale);
}

std::vector<unsigned char> Window::pixels(int& width, int& height) const {
  glfwGetFramebufferSize(window_, &width, &height);
  const size_t row = size_t(width) * 3;
  std::vector<unsigned char> below(row * height), all(row * height);
  glPixelStorei(GL_PACK_ALIGNMENT, 1);
  glReadPixels(0, 0, width, height, GL_RGB, GL_UNSIGNED_BYTE, below.data());
  for (int y = 0; y < height; ++y)
    std::copy_n(below.data() + row * (height - 1 - y), row, all.data() + row * y);
  return all;
}

void Window::resize(int width, int height) {
  glfwSetWindowSize(window_, width, height);
}

std::string Window::renderer() const {
  const auto* text = reinterpret_cast<const char*>(glGetString(GL_RENDERER));
  return text ? text : "";
}

unsigned Window::gl_error() const {
  return glGetError();
}

}  // namespace sagelab::ui
