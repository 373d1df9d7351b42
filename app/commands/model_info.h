// SPDX-License-Identifier: Apache-2.0
// `info --model`: what a folder holds and everything that it lacks, from configs and headers alone.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace sagelab {

struct ModelInfo {
  struct Component {
    std::string name, library, class_name;
    int64_t tensors = 0, parameters = 0, bytes = 0;  // 0 where it has no weights
    std::vector<std::string> dtypes;                 // as the files name them
    std::string file;                                // in place of its own; or empty
  };
  std::string family, class_name;
  std::vector<Component> components;
  std::vector<std::string> missing;  // one line each: what, and in which file it should be
};

// Throws sagelab::Error where the folder is of no known family; everything else that is wrong is in missing.
ModelInfo inspect_model(const std::filesystem::path& folder, const std::string& variant,
                        const std::vector<std::string>& weights = {});

nlohmann::json to_json(const ModelInfo& info);
std::string table_of(const ModelInfo& info);

}  // namespace sagelab
