// SPDX-License-Identifier: Apache-2.0
// The files that hold a model's weights: those in its components' folders, or single files that a request
// names in their place (--weights).
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pipelines/core/weights.h"
#include "pipelines/request.h"

namespace sagelab {

class WeightFiles {
 public:
  // Throws sagelab::Error for what is no COMPONENT=FILE, and for a component with two files.
  explicit WeightFiles(const Request& request);
  // Throws sagelab::Error where a file is given for anything but these.
  void require_among(std::span<const std::string> components) const;

  // The file in place of a component's folder; empty where there is none.
  std::filesystem::path file_for(const std::string& component) const;
  // stem: of the folder's files. names: of a single file's tensors.
  std::shared_ptr<WeightSource> open(const std::string& component, const char* stem,
                                     const OriginalNames& names, LoadProgress progress = {}) const;
  std::vector<TensorInfo> list(const std::string& component, const char* stem,
                               const OriginalNames& names) const;

 private:
  std::filesystem::path root_;
  std::string variant_;
  std::map<std::string, std::filesystem::path> files_;  // by component
};

}  // namespace sagelab
