// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace sagelab::ui {

// A folder of its own, gone with this.
class TempTree {
 public:
  TempTree() {
    std::string made = (std::filesystem::temp_directory_path() / "sagelab_ui_XXXXXX").string();
    folder_ = ::mkdtemp(made.data());
  }
  ~TempTree() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  TempTree(const TempTree&) = delete;
  TempTree& operator=(const TempTree&) = delete;

  std::string at(const std::string& name) const { return (folder_ / name).string(); }
  void file(const std::string& name, const std::string& text = {}) const {
    std::filesystem::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name) << text;
  }
  void program(const std::string& name, const std::string& script) const {
    file(name, "#!/bin/sh\n" + script + "\n");
    std::filesystem::permissions(folder_ / name, std::filesystem::perms::owner_all);
  }

 private:
  std::filesystem::path folder_;
};

}  // namespace sagelab::ui
