// SPDX-License-Identifier: Apache-2.0
#include "ui/policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace sagelab::ui {
namespace {

using Cells = std::vector<std::string>;

// "0-4+7": of indices in ascending order.
std::string ranges_text(const std::vector<int>& indices) {
  std::string text;
  for (size_t i = 0; i < indices.size();) {
    size_t j = i;
    while (j + 1 < indices.size() && indices[j + 1] == indices[j] + 1) ++j;
    text += text.empty() ? "" : "+";
    text += i == j ? fmt::format("{}", indices[i]) : fmt::format("{}-{}", indices[i], indices[j]);
    i = j + 1;
  }
  return text;
}

// Who is named by a rule, in the order in which they first occur, and who serves all else.
struct Rules {
  std::vector<std::pair<std::string, std::vector<int>>> groups;
  std::string otherwise;
};

// Whoever serves the last index also serves what lies beyond it.
Rules rules_of(const Cells& values) {
  Rules rules;
  rules.otherwise = values.back();
  for (int i = 0; i < int(values.size()); ++i) {
    if (values[i] == rules.otherwise) continue;
    const auto group = std::find_if(rules.groups.begin(), rules.groups.end(),
                                    [&](const auto& g) { return g.first == values[i]; });
    if (group == rules.groups.end())
      rules.groups.push_back({values[i], {i}});
    else
      group->second.push_back(i);
  }
  return rules;
}

std::string schedule_text(const char* axis, const Cells& values) {
  const auto rules = rules_of(values);
  if (rules.groups.empty()) return rules.otherwise;
  std::string text = "schedule(";
  for (const auto& [spec, indices] : rules.groups)
    text += fmt::format("{}={}:{},", axis, ranges_text(indices), spec);
  return text + "else:" + rules.otherwise + ")";
}

}  // namespace

Policy make_policy(int steps, int layers, int ranges, const std::string& spec) {
  Policy policy;
  if (steps < 1 || layers < 1) return policy;
  policy.steps = steps, policy.layers = layers;
  const int columns = std::clamp(ranges, 1, steps);
  for (int c = 0; c < columns; ++c) policy.columns.push_back(int(int64_t(steps) * c / columns));
  policy.cells.assign(policy.columns.size(), Cells(layers, spec));
  return policy;
}

Policy with_steps(const Policy& policy, int steps) {
  const size_t ranges = policy.columns.size();
  Policy next = make_policy(steps, policy.layers, int(ranges), "");
  for (size_t c = 0; c < next.cells.size(); ++c) next.cells[c] = policy.cells[c * ranges / next.cells.size()];
  return next;
}

int first_step(const Policy& policy, size_t column) {
  return policy.columns.at(column);
}

int end_step(const Policy& policy, size_t column) {
  return column + 1 < policy.columns.size() ? policy.columns[column + 1] : policy.steps;
}

size_t column_of(const Policy& policy, int step) {
  size_t column = 0;
  while (column + 1 < policy.columns.size() && policy.columns[column + 1] <= step) ++column;
  return column;
}

std::string spec_of(const Policy& policy) {
  if (policy.cells.empty() || policy.layers < 1) return "";
  Cells of_steps;
  for (size_t c = 0; c < policy.columns.size(); ++c) {
    const auto text = schedule_text("layers", policy.cells[c]);
    for (int step = first_step(policy, c); step < end_step(policy, c); ++step) of_steps.push_back(text);
  }
  return schedule_text("steps", of_steps);
}

Policy with_layer(Policy policy, int layer, const std::string& spec) {
  for (auto& column : policy.cells)
    if (layer >= 0 && layer < int(column.size())) column[layer] = spec;
  return policy;
}

}  // namespace sagelab::ui
