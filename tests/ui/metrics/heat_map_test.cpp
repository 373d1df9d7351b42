// SPDX-License-Identifier: Apache-2.0
#include "ui/metrics/heat_map.h"

#include <gtest/gtest.h>

#include <cmath>

namespace sagelab::ui {
namespace {

Measured measured(int step, int layer, double relative_l1) {
  return {step, layer, "sage2", "sdpa", .99, relative_l1, relative_l1 * 2, relative_l1 * 3};
}

TEST(HeatMap, EachCellHoldsItsWorstCall) {
  const auto map =
      heat_map({measured(0, 1, .1), measured(0, 1, .3), measured(0, 1, .2), measured(2, 0, .003)},
               ErrorKind::RelativeL1);
  EXPECT_EQ(map.steps, 3);
  EXPECT_EQ(map.layers, 2);
  EXPECT_EQ(map.at(0, 1).calls, 3);
  EXPECT_DOUBLE_EQ(map.at(0, 1).worst.relative_l1, .3);
  EXPECT_EQ(map.at(2, 0).calls, 1);
  EXPECT_EQ(map.at(1, 1).calls, 0);
  EXPECT_DOUBLE_EQ(map.least, .003);
  EXPECT_DOUBLE_EQ(map.most, .3);
}

TEST(HeatMap, KindsReadTheirOwnNumber) {
  const Measured m{0, 0, "a", "b", .75, .5, 2, 8};
  EXPECT_DOUBLE_EQ(error_of(m, ErrorKind::RelativeL1), .5);
  EXPECT_DOUBLE_EQ(error_of(m, ErrorKind::Cosine), .25);
  EXPECT_DOUBLE_EQ(error_of(m, ErrorKind::Rmse), 2);
  EXPECT_DOUBLE_EQ(error_of(m, ErrorKind::MaxAbs), 8);
}

TEST(HeatMap, WhatIsNoNumberIsTheWorst) {
  const auto map = heat_map({measured(0, 0, NAN), measured(0, 0, .1)}, ErrorKind::RelativeL1);
  EXPECT_TRUE(std::isnan(map.at(0, 0).worst.relative_l1));
  EXPECT_EQ(map.most, 0);
  const auto later = heat_map({measured(0, 0, .1), measured(0, 0, NAN)}, ErrorKind::RelativeL1);
  EXPECT_TRUE(std::isnan(later.at(0, 0).worst.relative_l1));
}

TEST(HeatMap, HeatGoesByPowers) {
  const auto map = heat_map({measured(0, 0, .001), measured(0, 1, .1)}, ErrorKind::RelativeL1);
  EXPECT_DOUBLE_EQ(heat_of(.001, map), 0);
  EXPECT_NEAR(heat_of(.01, map), .5, 1e-12);
  EXPECT_DOUBLE_EQ(heat_of(.1, map), 1);
  EXPECT_DOUBLE_EQ(heat_of(0, map), 0);
  EXPECT_DOUBLE_EQ(heat_of(7, map), 1);
  EXPECT_TRUE(std::isnan(heat_of(NAN, map)));
  const auto equal = heat_map({measured(0, 0, 0)}, ErrorKind::RelativeL1);
  EXPECT_DOUBLE_EQ(heat_of(0, equal), 0);
}

TEST(HeatMap, OfARunThatGoesOnKeepsItsSize) {
  const auto map = heat_map({measured(0, 1, .1)}, ErrorKind::RelativeL1, 5);
  EXPECT_EQ(map.steps, 5);
  EXPECT_EQ(map.layers, 2);
  EXPECT_EQ(map.at(0, 1).calls, 1);
  EXPECT_EQ(map.at(4, 1).calls, 0);
  EXPECT_EQ(heat_map({measured(6, 0, .1)}, ErrorKind::RelativeL1, 5).steps, 7);
}

TEST(HeatMap, StepsGoRightAndLayersDown) {
  const auto map = heat_map({measured(3, 1, .1)}, ErrorKind::RelativeL1);  // 4 x 2
  EXPECT_EQ(place_at(map, 0, 0, 400, 20), (HeatPlace{0, 0}));
  EXPECT_EQ(place_at(map, 399, 9.9, 400, 20), (HeatPlace{3, 0}));
  EXPECT_EQ(place_at(map, 199, 10, 400, 20), (HeatPlace{1, 1}));
  EXPECT_EQ(place_at(map, 400, 5, 400, 20), HeatPlace{});
  EXPECT_EQ(place_at(map, -1, 5, 400, 20), HeatPlace{});
  EXPECT_EQ(place_at(map, 5, 20, 400, 20), HeatPlace{});
  EXPECT_EQ(place_at(HeatMap{}, 0, 0, 400, 20), HeatPlace{});
}

TEST(HeatMap, TextHasTheSiteAndAllNumbers) {
  const auto map = heat_map({measured(2, 5, .25), measured(2, 5, .125)}, ErrorKind::RelativeL1);
  EXPECT_EQ(
      text_of(map, {2, 5}),
      "layer 5, step 2\nsage2 against sdpa, worst of 2 calls\ncosine 0.990000\nrelative L1 0.25\nRMSE 0.5\n"
      "largest error 0.75");
  EXPECT_EQ(text_of(map, {0, 5}), "layer 5, step 0\nnot measured");
  EXPECT_EQ(text_of(map, {}), "");
}

State serving(const std::string& spec) {
  State state;
  Job job;
  job.id = 1, job.status = Job::Status::Running, job.attention = spec;
  state.jobs = {job};
  return state;
}

TEST(PutLayerOn, OneBackendBecomesASchedule) {
  const auto change = put_layer_on(serving("sage2"), 10, 6, {4, "sdpa"});
  EXPECT_EQ(change.spec, "schedule(layers=4:sdpa,else:sage2)");
  EXPECT_EQ(change.policy.steps, 10);
  EXPECT_EQ(spec_of(change.policy), change.spec);
}

TEST(PutLayerOn, ACheckGoesOn) {
  EXPECT_EQ(put_layer_on(serving("check(sage2,sdpa(math))"), 10, 6, {0, "sdpa"}).spec,
            "check(schedule(layers=0:sdpa,else:sage2),sdpa(math))");
}

TEST(PutLayerOn, ThePaintedPolicyThatServesIsKept) {
  auto state = serving("schedule(layers=1:sdpa,else:sage2)");
  state.policy = with_layer(make_policy(10, 6, 2, "sage2"), 1, "sdpa");
  EXPECT_EQ(put_layer_on(state, 10, 6, {3, "sdpa"}).spec, "schedule(layers=1+3:sdpa,else:sage2)");
}

TEST(PutLayerOn, ASpecThatNoGridSaysIsWrapped) {
  const auto change = put_layer_on(serving("schedule(steps=0:sdpa,else:sage2)"), 10, 6, {3, "sdpa"});
  EXPECT_EQ(change.spec, "schedule(layers=3:sdpa,else:schedule(steps=0:sdpa,else:sage2))");
  EXPECT_TRUE(change.policy.cells.empty());
}

TEST(PutLayerOn, APolicyThatDoesNotServeIsNoBase) {
  auto state = serving("sage2");
  state.policy = with_layer(make_policy(10, 6, 2, "sage2"), 1, "sdpa");  // painted, and not used
  EXPECT_EQ(put_layer_on(state, 10, 6, {3, "sdpa"}).spec, "schedule(layers=3:sdpa,else:sage2)");
}

}  // namespace
}  // namespace sagelab::ui
