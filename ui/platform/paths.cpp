// SPDX-License-Identifier: Apache-2.0
#include "ui/platform/paths.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <system_error>

namespace sagelab::ui {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostNames = 500;  // more nobody scrolls through

// The typed path up to its last slash.
std::string folder_of(const std::string& typed) {
  return typed.substr(0, typed.rfind('/') + 1);
}

bool fits(const std::string& name, const std::string& patterns) {
  std::istringstream words(patterns);
  bool any = false;
  for (std::string pattern; words >> pattern; any = true)
    if (pattern == "*" || (pattern.starts_with('*') && name.ends_with(pattern.substr(1)))) return true;
  return !any;
}

}  // namespace

std::string without_tilde(const std::string& path) {
  const char* home = std::getenv("HOME");
  return home && *home && (path == "~" || path.starts_with("~/")) ? home + path.substr(1) : path;
}

std::vector<std::string> names_after(const std::string& typed, PathKind kind, const std::string& patterns) {
  const auto whole = without_tilde(typed), folder = folder_of(whole), begun = whole.substr(folder.size());
  std::vector<std::string> folders, files;
  std::error_code error;
  for (fs::directory_iterator at(folder.empty() ? "." : folder, error), end; !error && at != end;
       at.increment(error)) {
    const auto name = at->path().filename().string();
    if (!name.starts_with(begun) || (begun.empty() && name.starts_with('.'))) continue;
    std::error_code unknown;
    if (at->is_directory(unknown))
      folders.push_back(name + "/");
    else if (kind != PathKind::Folder && fits(name, patterns))
      files.push_back(name);
    if (folders.size() + files.size() >= kMostNames) break;
  }
  std::sort(folders.begin(), folders.end());
  std::sort(files.begin(), files.end());
  folders.insert(folders.end(), files.begin(), files.end());
  return folders;
}

std::string with_name(const std::string& typed, const std::string& name) {
  return folder_of(typed) + name;
}

std::string path_problem(const std::string& path, PathKind kind) {
  const fs::path asked(without_tilde(path));
  if (asked.empty()) return "Type or paste a path";
  std::error_code error;
  const bool folder = fs::is_directory(asked, error);
  if (kind == PathKind::Folder) return folder ? "" : "There is no such folder";
  if (folder) return "This is a folder: a file is asked for";
  if (kind == PathKind::Open) return fs::exists(asked, error) ? "" : "There is no such file";
  if (!asked.has_filename()) return "The file has no name";
  const auto parent = asked.has_parent_path() ? asked.parent_path() : fs::path(".");
  return fs::is_directory(parent, error) ? "" : "There is no folder " + parent.string();
}

}  // namespace sagelab::ui
