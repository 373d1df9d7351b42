// SPDX-License-Identifier: Apache-2.0
#include "app/report/switches.h"

#include <fmt/format.h>

#include <algorithm>

#include "app/report/median.h"

namespace sagelab {
namespace {

using nlohmann::json;

// Of steps [first, end).
json median_of(const std::vector<Timings::StepTime>& steps, int first, int end) {
  std::vector<double> seconds;
  for (int i = first; i < std::min(end, int(steps.size())); ++i) seconds.push_back(steps[size_t(i)].seconds);
  return seconds.empty() ? json() : json(median(std::move(seconds)));
}

std::string served_text(const json& backend, const json& seconds) {
  const auto name = backend.get<std::string>();
  if (seconds.is_null()) return name;
  const double s = seconds.get<double>();
  return fmt::format("{} {:.{}f} s a step", name, s, s < 0.1 ? 4 : 2);
}

}  // namespace

json switches_json(const std::vector<attention::Switch>& switches,
                   const std::vector<Timings::StepTime>& steps) {
  json all = json::array();
  for (size_t i = 0; i < switches.size(); ++i) {
    const auto& s = switches[i];
    const bool whole = s.call == 0;  // else two backends share the step
    int begin = 0, end = int(steps.size());
    if (i > 0) begin = switches[i - 1].site.step + (switches[i - 1].call > 0 ? 1 : 0);
    if (i + 1 < switches.size()) end = switches[i + 1].site.step;
    all.push_back({{"step", s.site.step},
                   {"call", s.call},
                   {"layer", s.site.layer},
                   {"branch", attention::to_string(s.site.branch)},
                   {"block", s.site.block},
                   {"from", s.from},
                   {"to", s.to},
                   {"at", s.at()},
                   {"seconds_before", median_of(steps, begin, s.site.step)},
                   {"seconds_after", median_of(steps, s.site.step + (whole ? 0 : 1), end)}});
  }
  return all;
}

std::string switches_text(const json& switches) {
  std::string text;
  for (const auto& s : switches) {
    if (text.empty()) text = served_text(s.at("from"), s.at("seconds_before"));
    const auto call = s.at("call").get<int>();
    text += fmt::format(", from {}step {} {}", call > 0 ? fmt::format("call {} of ", call) : "",
                        s.at("step").get<int>(), served_text(s.at("to"), s.at("seconds_after")));
  }
  return text;
}

}  // namespace sagelab
