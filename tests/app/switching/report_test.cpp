// SPDX-License-Identifier: Apache-2.0
#include "app/report/switches.h"

#include <gmock/gmock.h>

namespace sagelab {
namespace {

using nlohmann::json;

attention::Switch switch_at(int step, int call, std::string from, std::string to) {
  attention::Site site;
  site.step = step;
  site.layer = call;
  site.branch = attention::Branch::Both;
  return {site, call, std::move(from), std::move(to)};
}

std::vector<Timings::StepTime> steps_of(const std::vector<double>& seconds) {
  std::vector<Timings::StepTime> steps;
  for (const double s : seconds) steps.push_back({s, "x"});
  return steps;
}

json seconds_of(const json& switches) {
  json all = json::array();
  for (const auto& s : switches) all.push_back({s.at("seconds_before"), s.at("seconds_after")});
  return all;
}

TEST(Switches, EachHasItsPlaceAndTheMedianStepsAroundIt) {
  const auto all = switches_json({switch_at(3, 0, "sdpa", "sage2")}, steps_of({9, 2, 3, 1, 7, 1}));
  EXPECT_EQ(all, json::array({{{"step", 3},
                               {"call", 0},
                               {"layer", 0},
                               {"branch", "both"},
                               {"block", "block"},
                               {"from", "sdpa"},
                               {"to", "sage2"},
                               {"at", "3=sage2"},
                               {"seconds_before", 3.0},
                               {"seconds_after", 1.0}}}));
  EXPECT_EQ(switches_text(all), "sdpa 3.00 s a step, from step 3 sage2 1.00 s a step");
}

// The step in which a call switches is nobody's.
TEST(Switches, OnlyWholeStepsOfOneBackendCount) {
  const auto all = switches_json({switch_at(2, 5, "a", "b"), switch_at(4, 0, "b", "c")},
                                 steps_of({1, 1, 100, 0.04, 5, 7, 6}));
  EXPECT_EQ(seconds_of(all), json::array({{1.0, 0.04}, {0.04, 6.0}}));
  EXPECT_EQ(all[0].at("at"), "2.5=b");
  EXPECT_EQ(all[0].at("layer"), 5);
  EXPECT_EQ(switches_text(all),
            "a 1.00 s a step, from call 5 of step 2 b 0.0400 s a step, from step 4 c 6.00 s a step");
}

TEST(Switches, WhereThereIsNoWholeStepThereAreNoSeconds) {
  const auto steps = steps_of({1, 2, 3});
  EXPECT_EQ(seconds_of(switches_json({switch_at(0, 0, "a", "b")}, steps)), json::array({{nullptr, 2.0}}));
  EXPECT_EQ(seconds_of(switches_json({switch_at(0, 1, "a", "b")}, steps)), json::array({{nullptr, 2.5}}));
  const auto within =
      switches_json({switch_at(2, 1, "a", "b"), switch_at(2, 2, "b", "a"), switch_at(2, 4, "a", "c")}, steps);
  EXPECT_EQ(seconds_of(within), json::array({{1.5, nullptr}, {nullptr, nullptr}, {nullptr, nullptr}}));
  EXPECT_EQ(switches_text(within),
            "a 1.50 s a step, from call 1 of step 2 b, from call 2 of step 2 a, from call 4 of step 2 c");
}

TEST(Switches, NoneSaysNothing) {
  EXPECT_EQ(switches_json({}, steps_of({1, 2})), json::array());
  EXPECT_EQ(switches_text(json::array()), "");
}

}  // namespace
}  // namespace sagelab
