// SPDX-License-Identifier: Apache-2.0
#include "ui/platform/file_dialog.h"

#include <imgui.h>
#include <imgui_stdlib.h>
#include <portable_file_dialogs.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

#include "ui/look/theme.h"

namespace sagelab::ui {
namespace {

using Ticks = std::chrono::steady_clock;
namespace fs = std::filesystem;

constexpr auto kTooSoon = std::chrono::milliseconds(500);  // for a person to have cancelled it
constexpr int kCancelled = 1;                              // zenity's and kdialog's exit code

// The library looks for them with programs of its own, which takes longer than a frame.
bool has_program() {
  std::istringstream folders(std::getenv("PATH") ? std::getenv("PATH") : "");
  for (std::string folder; std::getline(folders, folder, ':');)
    for (const auto* name : {"zenity", "matedialog", "qarma", "kdialog"})
      if (::access((fs::path(folder) / name).c_str(), X_OK) == 0) return true;
  return false;
}

// A dialog whose program's exit code can be asked for.
template <typename Dialog>
struct Asked : Dialog {
  using Dialog::Dialog;
  int exit_code() const {
    int code = -1;
    this->m_async->result(&code);
    return code;
  }
};

}  // namespace

struct FileDialog::Native {
  std::optional<Asked<pfd::open_file>> file;
  std::optional<Asked<pfd::save_file>> save;
  std::optional<Asked<pfd::select_folder>> folder;
  Ticks::time_point opened = Ticks::now();

  template <typename F>
  auto with(const F& f) {
    return file ? f(*file) : save ? f(*save) : f(*folder);
  }
  Native() = default;
  Native(const Native&) = delete;
  Native& operator=(const Native&) = delete;
  // Else the library waits until a person closes it.
  ~Native() {
    with([](auto& dialog) {
      if (!dialog.ready(0)) dialog.kill();
      return true;
    });
  }

  bool ready() {
    return with([](auto& dialog) { return dialog.ready(0); });
  }
  int exit_code() {
    return with([](auto& dialog) { return dialog.exit_code(); });
  }
  std::string result() {
    if (!file) return save ? save->result() : folder->result();
    const auto files = file->result();
    return files.empty() ? "" : files.front();
  }
  // It ended without a path, and not because somebody wanted that.
  bool failed() { return exit_code() > kCancelled || (exit_code() != 0 && Ticks::now() - opened < kTooSoon); }
};

FileDialog::FileDialog() = default;
FileDialog::~FileDialog() = default;

void FileDialog::open(Wish wish) {
  if (wish_) return;
  wish_ = std::make_unique<Wish>(std::move(wish));
  std::error_code error;
  if (folder_.empty()) folder_ = fs::current_path(error).string();
  path_ = fs::path(wish_->suggested).is_absolute() ? wish_->suggested
                                                   : (fs::path(folder_) / wish_->suggested).string();
  opened_ = false;
  listed_.reset();
  native_.reset();
  if (!has_program() || !pfd::settings::available()) {
    said_ = "This desktop has no file dialog (zenity or kdialog): type or paste a path, or click on names.";
    return;
  }
  auto filters = wish_->filters;
  if (filters.empty()) filters = {"All files", "*"};
  native_ = std::make_unique<Native>();
  if (wish_->kind == Kind::Open)
    native_->file.emplace(wish_->title, path_, filters, pfd::opt::none);
  else if (wish_->kind == Kind::Save)
    native_->save.emplace(wish_->title, path_, filters, pfd::opt::none);
  else
    native_->folder.emplace(wish_->title, path_, pfd::opt::none);
}

void FileDialog::draw() {
  if (!wish_) return;
  native_ ? poll_native() : draw_own();
}

void FileDialog::poll_native() {
  if (!native_->ready()) return;
  const auto path = native_->result();
  const bool failed = path.empty() && native_->failed();
  native_.reset();
  if (failed) {
    said_ = "The desktop's file dialog did not open: type or paste a path, or click on names.";
    return;
  }
  path_ = path;
  take();
}

// With what path_ says, which may be nothing.
void FileDialog::take() {
  const auto wish = std::exchange(wish_, nullptr);
  auto path = without_tilde(path_);
  if (path.empty()) return;
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  folder_ = (wish->kind == Kind::Folder ? fs::path(path) : fs::path(path).parent_path()).string();
  wish->chosen(path);
}

bool FileDialog::draw_names() {
  const auto patterns = wish_->filters.size() > 1 ? wish_->filters[1] : std::string();
  if (std::exchange(listed_, path_) != path_) names_ = names_after(path_, wish_->kind, patterns);
  bool twice = false;
  if (ImGui::BeginChild("names", {0, px(190)}, ImGuiChildFlags_Borders)) {
    constexpr auto kFlags = ImGuiSelectableFlags_NoAutoClosePopups | ImGuiSelectableFlags_AllowDoubleClick;
    for (const auto& name : names_) {
      if (!ImGui::Selectable(name.c_str(), false, kFlags)) continue;
      path_ = with_name(path_, name);
      twice = twice || (!name.ends_with('/') && ImGui::IsMouseDoubleClicked(ImGuiMouseButton_Left));
    }
    if (names_.empty()) note("Nothing here goes on like this.");
  }
  ImGui::EndChild();
  return twice;
}

void FileDialog::draw_own() {
  const auto title = wish_->title + "###path";
  if (!std::exchange(opened_, true)) ImGui::OpenPopup(title.c_str());
  bool stays = true, takes = false;
  const auto* viewport = ImGui::GetMainViewport();
  ImGui::SetNextWindowPos(viewport->GetCenter(), ImGuiCond_Appearing, {.5f, .5f});
  ImGui::SetNextWindowSize({std::min(px(560), viewport->WorkSize.x - px(40)), 0});
  if (ImGui::BeginPopupModal(title.c_str(), &stays, ImGuiWindowFlags_AlwaysAutoResize)) {
    note(said_.c_str());
    ImGui::SetNextItemWidth(-1);
    if (ImGui::IsWindowAppearing() || std::exchange(focus_, false)) ImGui::SetKeyboardFocusHere();
    takes = focus_ = ImGui::InputText("##path", &path_, ImGuiInputTextFlags_EnterReturnsTrue);
    takes = draw_names() || takes;
    const auto problem = path_problem(path_, wish_->kind);
    const bool there =
        problem.empty() && wish_->kind == Kind::Save && path_problem(path_, Kind::Open).empty();
    note(there ? "It is there already, and will be written over." : problem.empty() ? " " : problem.c_str());
    ImGui::BeginDisabled(!problem.empty());
    takes = ImGui::Button("OK", {px(90), 0}) || takes;
    ImGui::EndDisabled();
    ImGui::SameLine();
    stays = !ImGui::Button("Cancel", {px(90), 0}) && !ImGui::IsKeyPressed(ImGuiKey_Escape) && stays;
    takes = takes && problem.empty();
    if (takes || !stays) ImGui::CloseCurrentPopup();
    ImGui::EndPopup();
  } else {
    stays = false;
  }
  if (takes) return take();
  if (!stays) wish_.reset();
}

}  // namespace sagelab::ui
