// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/checkpoint/original.h"

#include <algorithm>

namespace sagelab {

std::string renamed(std::string_view key, std::string_view from, std::string_view to) {
  const size_t star = from.find('*');
  std::string_view number;
  if (star != std::string_view::npos) {
    if (!key.starts_with(from.substr(0, star))) return {};
    key.remove_prefix(star), from.remove_prefix(star + 1);
    number = key.substr(0, std::min(key.find_first_not_of("0123456789"), key.size()));
    if (number.empty()) return {};
    key.remove_prefix(number.size());
  }
  const bool open = from.ends_with('.');
  if (open ? !key.starts_with(from) : key != from) return {};
  const size_t place = to.find('*');
  std::string out(to);
  if (place != std::string_view::npos) out.replace(place, 1, number);
  return open ? out.append(key.substr(from.size())) : out;
}

}  // namespace sagelab
