// SPDX-License-Identifier: Apache-2.0
#include "ui/platform/file_dialog.h"

#include <imgui.h>
#include <imgui_stdlib.h>
#include <portable_file_dialogs.h>

#include <optional>
#include <utility>

#include "ui/look/theme.h"

namespace sagelab::ui {

struct FileDialog::Native {
  std::optional<pfd::open_file> file;
  std::optional<pfd::save_file> save;
  std::optional<pfd::select_folder> folder;

  bool ready() const {
    const auto done = [](const auto& dialog) { return dialog && dialog->ready(0); };
    return done(file) || done(save) || done(folder);
  }
  std::string result() {
    if (file) {
      const auto files = file->result();
      return files.empty() ? "" : files.front();
    }
    return save ? save->result() : folder->result();
  }
};

FileDialog::FileDialog() = default;
FileDialog::~FileDialog() = default;

void FileDialog::open(Wish wish) {
  if (wish_) return;
  wish_ = std::make_unique<Wish>(std::move(wish));
  path_ = wish_->suggested;
  opened_ = false;
  native_.reset();
  if (!pfd::settings::available()) return;
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
  native_.reset();
  const auto wish = std::exchange(wish_, nullptr);
  if (!path.empty()) wish->chosen(path);
}

void FileDialog::draw_own() {
  const auto title = wish_->title + "###path";
  if (!std::exchange(opened_, true)) ImGui::OpenPopup(title.c_str());
  bool stays = true, take = false;
  ImGui::SetNextWindowSize({px(520), 0});
  if (ImGui::BeginPopupModal(title.c_str(), &stays, ImGuiWindowFlags_AlwaysAutoResize)) {
    note(wish_->kind == Kind::Folder ? "The folder's path" : "The file's path");
    ImGui::SetNextItemWidth(-1);
    if (ImGui::IsWindowAppearing()) ImGui::SetKeyboardFocusHere();
    take = ImGui::InputText("##path", &path_, ImGuiInputTextFlags_EnterReturnsTrue);
    take = ImGui::Button("OK", {px(90), 0}) || take;
    ImGui::SameLine();
    if (ImGui::Button("Cancel", {px(90), 0})) stays = false;
    if (take || !stays) ImGui::CloseCurrentPopup();
    ImGui::EndPopup();
  } else {
    stays = false;
  }
  if (!take && stays) return;
  const auto wish = std::exchange(wish_, nullptr);
  if (take && !path_.empty()) wish->chosen(path_);
}

}  // namespace sagelab::ui
