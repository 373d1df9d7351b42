// SPDX-License-Identifier: Apache-2.0
// "3", "0-4", "0+3-5+last": some of a run's steps or of a model's layers. Numbers count from 0; last is the
// run's or the model's last.
#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace sagelab::attention {

struct Range {
  static constexpr int kLast = std::numeric_limits<int>::max();
  int first = 0, last = 0;  // both within; kLast: the last one
};
using Ranges = std::vector<Range>;

// Empty where the text is malformed.
Ranges ranges_from(std::string_view text);
std::string text_of(const Ranges& ranges);
// Whether index, of count, is in one of them.
bool holds(const Ranges& ranges, int index, int count);

}  // namespace sagelab::attention
