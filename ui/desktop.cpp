// SPDX-License-Identifier: Apache-2.0
#include "ui/desktop.h"

#include <fmt/format.h>
#include <imgui.h>
#include <imgui_internal.h>

#include <algorithm>
#include <utility>

#include "ui/compare/canvas.h"
#include "ui/look/icons.h"
#include "ui/look/theme.h"
#include "ui/metrics/metrics_panel.h"
#include "ui/panels/attention/attention_panel.h"
#include "ui/panels/dialogs.h"
#include "ui/panels/exportable.h"
#include "ui/panels/prompt/prompt_panel.h"
#include "ui/panels/queue_panel.h"
#include "ui/platform/file_dialog.h"
#include "ui/platform/window.h"

namespace sagelab::ui {
namespace {

constexpr const char *kPrompt = "Prompt", *kQueue = "Queue", *kCanvas = "Compare", *kAttention = "Attention",
                     *kMetrics = "Metrics";
constexpr int kSettled = 2;  // frames
constexpr float kNarrow = 1000;

}  // namespace

struct Desktop::Panels {
  PromptPanel prompt;
  AttentionPanel attention;
  FileDialog files;
  Canvas canvas{Window::wake};
  MetricsPanel metrics;
};

Desktop::Desktop() : panels_(std::make_unique<Panels>()) {}
Desktop::~Desktop() = default;

void Desktop::draw(const State& state, Actions& actions, Textures& textures) {
  if (std::exchange(backends_, state.backends.size()) != state.backends.size()) {
    std::vector<std::string> specs;
    for (const auto& backend : state.backends) specs.push_back(backend.spec);
    tell_apart(std::move(specs));
  }
  draw_menu(state, actions);
  draw_status(state);
  const ImGuiID dock = ImGui::GetID("desktop");
  const bool narrow = ImGui::GetMainViewport()->WorkSize.x < px(kNarrow);
  if (std::exchange(narrow_, narrow) != narrow && arranged_) rescale();
  if (!arranged_) {
    arranged_ = true;
    // A layout that was read from the file stays as it is.
    const auto* node = ImGui::DockBuilderGetNode(dock);
    if (!node || node->IsEmpty() || std::exchange(afresh_, false)) arrange(dock);
  }
  ImGui::DockSpaceOverViewport(dock, ImGui::GetMainViewport());
  draw_panels(state, actions, textures);
  panels_->files.draw();
  draw_dialogs(state, actions);
  paste(actions);
}

void Desktop::arrange(unsigned dock) {
  ImGui::DockBuilderRemoveNode(dock);
  ImGui::DockBuilderAddNode(dock, ImGuiDockNodeFlags_DockSpace);
  const ImVec2 size = ImGui::GetMainViewport()->WorkSize;
  ImGui::DockBuilderSetNodeSize(dock, size);
  // As wide as their text needs, also in a large window: pictures have the rest.
  const float left_width = std::min(px(310) / size.x, .4f);
  const float right_width = std::min(px(330) / (size.x - px(310)), .45f);
  const float queue_height = std::min(px(190) / size.y, .4f);
  ImGuiID left = 0, middle = 0, right = 0, below = 0, right_below = 0, rest = 0;
  ImGui::DockBuilderSplitNode(dock, ImGuiDir_Left, left_width, &left, &rest);
  // In a narrow window all that is set and said are tabs of one place, and pictures have the rest.
  if (narrow_)
    right = left, middle = rest;
  else
    ImGui::DockBuilderSplitNode(rest, ImGuiDir_Right, right_width, &right, &middle);
  ImGui::DockBuilderSplitNode(middle, ImGuiDir_Down, queue_height, &below, &middle);
  // Where there is little room, attention and metrics share it as tabs.
  const bool tall = size.y >= px(1000) && !narrow_;
  if (tall) ImGui::DockBuilderSplitNode(right, ImGuiDir_Down, .42f, &right_below, &right);
  ImGui::DockBuilderDockWindow(kPrompt, left);
  ImGui::DockBuilderDockWindow(kCanvas, middle);
  ImGui::DockBuilderDockWindow(kQueue, below);
  ImGui::DockBuilderDockWindow(kAttention, right);
  ImGui::DockBuilderDockWindow(kMetrics, tall ? right_below : right);
  ImGui::DockBuilderFinish(dock);
  front_ = kSettled;
}

void Desktop::draw_panels(const State& state, Actions& actions, Textures& textures) {
  auto& panels = *panels_;
  const auto panel = [](const char* name, const auto& content, ImGuiWindowFlags flags = 0) {
    if (ImGui::Begin(name, nullptr, flags)) content();
    ImGui::End();
  };
  // Of those that share a place; windows have to be there before one of them can be in front.
  if (front_ > 0 && --front_ == 0) {
    ImGui::SetWindowFocus(kAttention);
    ImGui::SetWindowFocus(kPrompt);
  }
  panel(kPrompt, [&] { panels.prompt.draw(state, actions, panels.files); });
  panel(kQueue, [&] { draw_queue({state, actions, panels.files, textures, panels.canvas}); });
  panel(kAttention, [&] { panels.attention.draw(state, actions); });
  panel(kMetrics, [&] { panels.metrics.draw(state, actions); });
  panel(
      kCanvas, [&] { panels.canvas.draw(state, actions, textures); },
      ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse);
}

void Desktop::draw_menu(const State& state, Actions& actions) {
  if (!ImGui::BeginMainMenuBar()) return;
  if (ImGui::BeginMenu("File")) {
    draw_file_menu(state, actions);
    ImGui::EndMenu();
  }
  if (ImGui::BeginMenu("View")) {
    draw_view_menu(actions);
    ImGui::EndMenu();
  }
  if (const auto* job = state.running()) {
    const auto right = fmt::format("{} {}", job->phase(), clock_text(job->phase_left(state.now)));
    const float width = ImGui::CalcTextSize(right.c_str()).x + ImGui::GetStyle().ItemSpacing.x * 2;
    ImGui::SameLine(ImGui::GetWindowWidth() - width);
    ImGui::TextDisabled("%s", right.c_str());
  }
  ImGui::EndMainMenuBar();
}

void Desktop::draw_file_menu(const State& state, Actions& actions) {
  auto& files = panels_->files;
  using Kind = FileDialog::Kind;
  if (ImGui::MenuItem("Open a model folder..."))
    files.open({Kind::Folder, "A diffusers model folder", "", {}, [&actions](const std::string& path) {
                  actions.push(action::AddModelFolder{path});
                }});
  if (ImGui::MenuItem("Restore settings of a file..."))
    files.open({Kind::Open, "A file made here", "", {}, [&actions](const std::string& path) {
                  actions.push(action::RestoreFrom{path});
                }});
  if (ImGui::MenuItem("Import prompts..."))
    files.open({Kind::Open, "A prompt file", "", {}, [&actions](const std::string& path) {
                  actions.push(action::ImportPrompts{path});
                }});
  ImGui::Separator();
  const auto shown = finished_in_canvas(state);
  const auto offer = [&](const char* item, action::Export::Kind kind, const char* title, const char* name) {
    const auto problem = export_problem(state, kind, shown);
    const bool chosen = ImGui::MenuItem(item, nullptr, false, problem.empty());
    tip(problem);
    if (!chosen) return;
    files.open({Kind::Save, title, name, {}, [&actions, kind, shown](const std::string& path) {
                  actions.push(action::Export{kind, shown, 0, path});
                }});
  };
  offer("Export side by side...", action::Export::Kind::SideBySide, "Side by side, as MP4",
        "side-by-side.mp4");
  offer("Export report...", action::Export::Kind::Report, "A page with everything in it", "report.html");
  ImGui::Separator();
  if (ImGui::MenuItem("Close", "Ctrl+Q")) actions.push(action::Close{});
}

void Desktop::draw_view_menu(Actions& actions) {
  if (ImGui::MenuItem(dark_ ? "Light" : "Dark")) {
    dark_ = !dark_;
    actions.push(action::SetLook{dark_, scale_});
  }
  constexpr float kScales[] = {.85f, 1, 1.15f, 1.3f, 1.5f, 2};
  if (ImGui::BeginMenu("Size")) {
    for (const float scale : kScales) {
      if (!ImGui::MenuItem(fmt::format("{:.0f} %", scale * 100).c_str(), nullptr, scale == scale_)) continue;
      scale_ = scale;
      actions.push(action::SetLook{dark_, scale_});
    }
    ImGui::EndMenu();
  }
  if (ImGui::MenuItem("Put the panels back")) rescale();
}

void Desktop::draw_status(const State& state) {
  constexpr auto kFlags = ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoSavedSettings;
  const bool open = ImGui::BeginViewportSideBar("##status", ImGui::GetMainViewport(), ImGuiDir_Down,
                                                ImGui::GetFrameHeight(), kFlags | ImGuiWindowFlags_MenuBar);
  if (open && ImGui::BeginMenuBar()) {
    std::string text = state.device;
    if (!state.memory.empty()) {
      text += fmt::format("   {} {}", icon::kMemory, bytes_text(state.memory.back().resident));
      if (state.memory.back().device > 0) text += ", GPU " + bytes_text(state.memory.back().device);
    }
    for (const auto& task : state.tasks) text += fmt::format("   {} {}", icon::kClock, task.what);
    if (!state.log.empty()) text += "   " + state.log.back();
    line(text, palette().muted);
    ImGui::EndMenuBar();
  }
  ImGui::End();
}

double Desktop::redraw_after(const State& state) const {
  constexpr double kDialog = .25, kClock = .5;
  double after = panels_->canvas.redraw_after();
  const auto at_most = [&](double seconds) { after = after < 0 ? seconds : std::min(after, seconds); };
  if (panels_->files.is_open() && !panels_->files.is_own()) at_most(kDialog);  // the desktop's wakes nobody
  if (state.running() || !state.tasks.empty()) at_most(kClock);
  return after;
}

void Desktop::take_files(const std::vector<std::string>& files, Actions& actions) {
  for (const auto& file : files) std::visit([&](auto what) { actions.push(what); }, action_for_file(file));
}

void Desktop::paste(Actions& actions) {
  if (ImGui::IsKeyChordPressed(ImGuiMod_Ctrl | ImGuiKey_Q)) actions.push(action::Close{});
  if (ImGui::GetIO().WantTextInput || !ImGui::IsKeyChordPressed(ImGuiMod_Ctrl | ImGuiKey_V)) return;
  const char* text = ImGui::GetClipboardText();
  const auto path = without_tilde(path_in(text ? text : ""));
  if (!path.empty()) take_files({path}, actions);
}

}  // namespace sagelab::ui
