// SPDX-License-Identifier: Apache-2.0
#include "app/batch/store/difference.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <vector>

#include "pipelines/core/config.h"

namespace sagelab::batch {
namespace {

using nlohmann::json;

// "/outputs/0/file" -> "outputs.0.file"
std::string told(std::string pointer) {
  std::replace(pointer.begin(), pointer.end(), '/', '.');
  return pointer.substr(1);
}

}  // namespace

std::string difference(const json& before, const json& now) {
  constexpr size_t kMost = 6;
  const auto old = before.flatten(), young = now.flatten();
  std::set<std::string> keys;
  for (const auto& [key, value] : old.items()) keys.insert(key);
  for (const auto& [key, value] : young.items()) keys.insert(key);
  keys.erase("");  // what an empty object is flattened to
  const auto value_of = [](const json& all, const std::string& key) {
    return all.contains(key) ? shown(all.at(key)) : std::string("not there");
  };
  std::vector<std::string> lines;
  for (const auto& key : keys) {
    if (old.contains(key) && young.contains(key) && old.at(key) == young.at(key)) continue;
    lines.push_back(fmt::format("{} was {} and is {}", told(key), value_of(old, key), value_of(young, key)));
  }
  const size_t left = lines.size() - std::min(lines.size(), kMost);
  lines.resize(std::min(lines.size(), kMost));
  auto text = fmt::format("{}", fmt::join(lines, "; "));
  return left ? fmt::format("{}; and {} more", text, left) : text;
}

}  // namespace sagelab::batch
