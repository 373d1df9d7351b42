// SPDX-License-Identifier: Apache-2.0
#include "ui/actions.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <initializer_list>
#include <string_view>

namespace sagelab::ui {

Action action_for_file(const std::string& path) {
  std::string name = path;
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return char(tolower(c)); });
  const auto ends = [&](std::initializer_list<const char*> endings) {
    return std::any_of(endings.begin(), endings.end(), [&](const char* e) { return name.ends_with(e); });
  };
  if (ends({".txt", ".csv", ".jsonl"})) return action::ImportPrompts{path};
  if (ends({".mp4", ".png", ".json"})) return action::RestoreFrom{path};
  return action::AddModelFolder{path};
}

std::string path_in(const std::string& pasted) {
  constexpr std::string_view kScheme = "file://";
  std::string line = pasted.substr(0, pasted.find_first_of("\r\n"));
  if (!line.starts_with(kScheme)) return line.starts_with('/') || line.starts_with("~/") ? line : "";
  std::string path;
  for (size_t i = kScheme.size(); i < line.size(); ++i) {
    unsigned byte = 0;
    const bool coded = line[i] == '%' && std::sscanf(line.c_str() + i + 1, "%2x", &byte) == 1;
    path += coded ? char(byte) : line[i];
    if (coded) i += 2;
  }
  return path;
}

}  // namespace sagelab::ui
