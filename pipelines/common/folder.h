// SPDX-License-Identifier: Apache-2.0
// model_index.json: a library and a class for each component.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "pipelines/core/config.h"
#include "pipelines/request.h"

namespace sagelab {

// The classes that a family takes for each component; one that may be missing has "" among them.
using ComponentClasses = std::map<std::string, std::vector<std::string>>;

// The class that an index names for a component; empty where it names none.
std::string class_in(const nlohmann::json& index, const std::string& component);
// Throws sagelab::Error for a class that is not among those, and for a component that the family does not
// know unless it is null. options: keys that are no components, and that the family reads.
nlohmann::json checked_index(const std::filesystem::path& file, const ComponentClasses& classes,
                             const std::set<std::string>& options = {});

// The folder of a request, its index checked likewise: before any config, as what is wrong with the whole
// comes first.
std::filesystem::path checked_root(const Request& request, const ComponentClasses& classes);

// Throws sagelab::Error naming two values of a folder that should be one.
void require_equal(const std::filesystem::path& root, const std::pair<const char*, int64_t>& a,
                   const std::pair<const char*, int64_t>& b);

template <typename T>
T parse_config(const std::filesystem::path& file) {
  Config config(file);
  return T(config);
}

}  // namespace sagelab
