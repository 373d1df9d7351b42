// SPDX-License-Identifier: Apache-2.0
#include "pipelines/common/folder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "attention/error.h"

namespace sagelab {

std::string class_in(const nlohmann::json& index, const std::string& component) {
  const auto entry = index.find(component);
  const bool named =
      entry != index.end() && entry->is_array() && entry->size() == 2 && (*entry)[1].is_string();
  return named ? (*entry)[1].get<std::string>() : "";
}

nlohmann::json checked_index(const std::filesystem::path& file, const ComponentClasses& classes,
                             const std::set<std::string>& options) {
  nlohmann::json index = read_json(file);
  for (const auto& [key, entry] : index.items()) {
    if (key.starts_with('_') || classes.contains(key) || options.contains(key)) continue;
    if (!entry.is_null() && entry != nlohmann::json::array({nullptr, nullptr}))
      throw Error(fmt::format("{}: unknown key {} = {}", file.string(), key, entry.dump()),
                  "this program would ignore it; remove it if that is right");
  }
  for (const auto& [name, known] : classes) {
    const std::string found = class_in(index, name);
    if (std::find(known.begin(), known.end(), found) == known.end())
      throw Error(fmt::format("{}: {} is {}, not {}", file.string(), name, found.empty() ? "missing" : found,
                              fmt::join(known, " or ")));
  }
  return index;
}

std::filesystem::path checked_root(const Request& request, const ComponentClasses& classes) {
  const std::filesystem::path root = request.model;
  checked_index(root / "model_index.json", classes);
  return root;
}

void require_equal(const std::filesystem::path& root, const std::pair<const char*, int64_t>& a,
                   const std::pair<const char*, int64_t>& b) {
  if (a.second != b.second)
    throw Error(
        fmt::format("{}: {} = {} does not fit {} = {}", root.string(), a.first, a.second, b.first, b.second));
}

}  // namespace sagelab
