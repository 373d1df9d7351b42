// SPDX-License-Identifier: Apache-2.0
#include "ui/policy.h"

#include <gtest/gtest.h>

namespace sagelab::ui {
namespace {

TEST(Policy, RangesAreAsEqualAsTheyCanBe) {
  const auto policy = make_policy(10, 4, 3, "sdpa");
  EXPECT_EQ(policy.columns, (std::vector<int>{0, 3, 6}));
  EXPECT_EQ(policy.cells.size(), 3u);
  EXPECT_EQ(policy.cells[2], std::vector<std::string>(4, "sdpa"));
  EXPECT_EQ(end_step(policy, 0), 3);
  EXPECT_EQ(end_step(policy, 2), 10);
  EXPECT_EQ(column_of(policy, 5), 1u);
  EXPECT_EQ(column_of(policy, 99), 2u);
  EXPECT_EQ(make_policy(2, 4, 5, "x").columns.size(), 2u);
  EXPECT_TRUE(make_policy(0, 4, 3, "x").cells.empty());
}

TEST(Policy, OverOtherStepsThePictureIsTheSame) {
  auto painted = make_policy(10, 2, 3, "sage2");
  painted.cells[0] = {"sdpa", "sage2"}, painted.cells[1] = {"sage2", "reference"};
  for (const int steps : {3, 7, 10, 50}) {
    const auto moved = with_steps(painted, steps);
    EXPECT_EQ(moved.steps, steps);
    EXPECT_EQ(moved.layers, 2);
    EXPECT_EQ(moved.columns, make_policy(steps, 2, 3, "").columns) << steps;
    EXPECT_EQ(moved.cells, painted.cells) << steps;
  }
  const auto two = with_steps(painted, 2);
  EXPECT_EQ(two.columns, (std::vector<int>{0, 1}));
  EXPECT_EQ(two.cells, (std::vector{painted.cells[0], painted.cells[1]}));
  EXPECT_EQ(with_steps(painted, 1).cells, decltype(painted.cells){painted.cells[0]});
  EXPECT_TRUE(with_steps({}, 5).cells.empty());
  auto fifths = make_policy(10, 2, 5, "sage2");
  fifths.cells[2] = {"sdpa", "sdpa"};
  EXPECT_EQ(with_steps(fifths, 2).cells, (std::vector{fifths.cells[0], fifths.cells[2]}));
}

TEST(Policy, OneBackendNeedsNoSchedule) {
  EXPECT_EQ(spec_of(make_policy(10, 4, 3, "sage2")), "sage2");
  EXPECT_EQ(spec_of({}), "");
}

TEST(Policy, StepsAlone) {
  auto policy = make_policy(10, 4, 2, "sage2");
  policy.cells[0] = std::vector<std::string>(4, "sdpa");
  EXPECT_EQ(spec_of(policy), "schedule(steps=0-4:sdpa,else:sage2)");
}

TEST(Policy, LayersAlone) {
  auto policy = make_policy(10, 6, 2, "sage2");
  for (auto& column : policy.cells) column[0] = column[2] = column[3] = "sdpa";
  EXPECT_EQ(spec_of(policy), "schedule(layers=0+2-3:sdpa,else:sage2)");
  EXPECT_EQ(spec_of(with_layer(make_policy(10, 6, 2, "sage2"), 4, "sdpa(math)")),
            "schedule(layers=4:sdpa(math),else:sage2)");
}

TEST(Policy, LayersWithinARangeOfSteps) {
  auto policy = make_policy(9, 3, 3, "sage2");
  policy.cells[1][0] = "sdpa";
  EXPECT_EQ(spec_of(policy), "schedule(steps=3-5:schedule(layers=0:sdpa,else:sage2),else:sage2)");
  policy.cells[0] = std::vector<std::string>(3, "reference");
  EXPECT_EQ(spec_of(policy),
            "schedule(steps=0-2:reference,steps=3-5:schedule(layers=0:sdpa,else:sage2),else:sage2)");
}

TEST(Policy, TheSameBackendInTwoRangesIsOneRule) {
  auto policy = make_policy(12, 2, 4, "sage2");
  policy.cells[0] = policy.cells[2] = std::vector<std::string>(2, "sdpa");
  EXPECT_EQ(spec_of(policy), "schedule(steps=0-2+6-8:sdpa,else:sage2)");
}

}  // namespace
}  // namespace sagelab::ui
