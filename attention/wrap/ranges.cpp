// SPDX-License-Identifier: Apache-2.0
#include "attention/wrap/ranges.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace sagelab::attention {

namespace {

std::string text_of(int bound) {
  return bound == Range::kLast ? "last" : std::to_string(bound);
}

std::optional<int> bound_from(std::string_view word) {
  if (word == "last") return Range::kLast;
  int value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  const bool whole = error == std::errc() && end == word.data() + word.size();
  return whole && value >= 0 && value < Range::kLast ? std::optional(value) : std::nullopt;
}

}  // namespace

Ranges ranges_from(std::string_view text) {
  Ranges ranges;
  while (true) {
    const size_t plus = text.find('+');
    const std::string_view part = text.substr(0, plus);
    const size_t dash = part.find('-');
    const auto first = bound_from(part.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : bound_from(part.substr(dash + 1));
    if (!first || !last || *last < *first) return {};
    ranges.push_back({*first, *last});
    if (plus == std::string_view::npos) return ranges;
    text.remove_prefix(plus + 1);
  }
}

std::string text_of(const Ranges& ranges) {
  std::string text;
  for (const Range& r : ranges) {
    if (!text.empty()) text += "+";
    text += r.first == r.last ? text_of(r.first) : text_of(r.first) + "-" + text_of(r.last);
  }
  return text;
}

bool holds(const Ranges& ranges, int index, int count) {
  const auto resolved = [count](int bound) { return bound == Range::kLast ? count - 1 : bound; };
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const Range& r) { return resolved(r.first) <= index && index <= resolved(r.last); });
}

}  // namespace sagelab::attention
