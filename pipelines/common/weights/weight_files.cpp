// SPDX-License-Identifier: Apache-2.0
#include "pipelines/common/weights/weight_files.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "attention/error.h"

namespace sagelab {

WeightFiles::WeightFiles(const Request& request) : root_(request.model), variant_(request.variant) {
  for (const std::string& text : request.weights) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == text.size())
      throw Error(fmt::format("weights \"{}\" do not say which file stands for which component", text),
                  "write COMPONENT=FILE: transformer=model.safetensors");
    const std::string component = text.substr(0, equals);
    if (!files_.emplace(component, text.substr(equals + 1)).second)
      throw Error(fmt::format("weights: {} is given two files", component), "leave one of them out");
  }
}

void WeightFiles::require_among(std::span<const std::string> components) const {
  for (const auto& [component, file] : files_)
    if (std::find(components.begin(), components.end(), component) == components.end())
      throw Error(fmt::format("weights: this model has no component {}", component),
                  fmt::format("it has: {}", fmt::join(components, ", ")));
}

std::filesystem::path WeightFiles::file_for(const std::string& component) const {
  const auto it = files_.find(component);
  return it == files_.end() ? std::filesystem::path() : it->second;
}

std::shared_ptr<WeightSource> WeightFiles::open(const std::string& component, const char* stem,
                                                const OriginalNames& names, LoadProgress progress) const {
  const std::filesystem::path file = file_for(component);
  return file.empty() ? open_folder(root_ / component, stem, variant_, std::move(progress))
                      : open_file(file, names, std::move(progress));
}

std::vector<TensorInfo> WeightFiles::list(const std::string& component, const char* stem,
                                          const OriginalNames& names) const {
  const std::filesystem::path file = file_for(component);
  return file.empty() ? list_folder(root_ / component, stem, variant_) : list_file(file, names);
}

}  // namespace sagelab
