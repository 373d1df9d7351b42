// SPDX-License-Identifier: Apache-2.0
// Tables of code points, sorted.
#pragma once

#include <algorithm>
#include <iterator>
#include <span>

namespace sagelab::unicode {

struct Range {
  char32_t first, last;
};

// The range of a table that holds c; null: none.
template <typename T>
const T* find_range(std::span<const T> table, char32_t c) {
  const auto after =
      std::upper_bound(table.begin(), table.end(), c, [](char32_t x, const T& r) { return x < r.first; });
  return after != table.begin() && c <= std::prev(after)->last ? &*std::prev(after) : nullptr;
}

}  // namespace sagelab::unicode
