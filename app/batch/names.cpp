// SPDX-License-Identifier: Apache-2.0
#include "app/batch/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "pipelines/core/utf8.h"

namespace sagelab::batch {
namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; });
  return text;
}

std::string folder_of(const std::string& spec) {
  std::string name;
  for (const char c : spec) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '+';
    if (plain)
      name += c;
    else if (!name.empty() && name.back() != '-')
      name += '-';
  }
  while (name.ends_with('-')) name.pop_back();
  return file_text(name);
}

}  // namespace

std::string file_text(const std::string& text) {
  constexpr size_t kMostBytes = 180;
  std::string name;
  for (size_t i = 0; i < text.size();) {
    const size_t length = std::max<size_t>(utf8_length(std::string_view(text).substr(i)), 1);
    const auto c = static_cast<unsigned char>(text[i]);
    const bool unfit = length == 1 && (c < 0x20 || c == 0x7F || c == '/' || c >= 0x80);
    const auto character = unfit ? std::string("_") : text.substr(i, length);
    if (name.size() + character.size() > kMostBytes) break;
    name += character;
    i += length;
  }
  if (name.starts_with('.')) name.front() = '_';
  return name;
}

std::vector<std::string> stems_of(const std::vector<Prompt>& prompts, NameBy by) {
  std::vector<std::string> stems;
  std::set<std::string> taken;
  for (const auto& prompt : prompts) {
    const auto index = fmt::format("sample_{:04}", prompt.index);
    // A line that cannot be read has no text to be named by.
    auto stem = by == NameBy::Index || prompt.text.empty() ? index : file_text(prompt.text);
    if (!taken.insert(lower(stem)).second) {
      stem += fmt::format("_{:04}", prompt.index);
      while (!taken.insert(lower(stem)).second) stem += "_";
    }
    stems.push_back(stem);
  }
  return stems;
}

std::string name_of(const std::string& stem, NameBy by, int take, bool several_seeds) {
  return by == NameBy::Prompt || several_seeds ? fmt::format("{}-{}", stem, take) : stem;
}

std::vector<std::string> folders_of(const std::vector<std::string>& specs) {
  if (specs.size() < 2) return std::vector<std::string>(specs.size());
  std::vector<std::string> folders;
  std::set<std::string> taken;
  for (const auto& spec : specs) {
    const auto first = folder_of(spec);
    auto name = first;
    for (int i = 2; !taken.insert(lower(name)).second; ++i) name = fmt::format("{}-{}", first, i);
    folders.push_back(name + "/");
  }
  return folders;
}

}  // namespace sagelab::batch
