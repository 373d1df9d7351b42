// SPDX-License-Identifier: Apache-2.0
#include "ui/look/theme.h"

#include <gtest/gtest.h>

#include <set>

namespace sagelab::ui {
namespace {

TEST(Colours, ListedBackendsAreToldApartWhereverTheyStand) {
  const std::vector<std::string> specs = {"sdpa",
                                          "sdpa(flash)",
                                          "sdpa(cudnn)",
                                          "sdpa(efficient)",
                                          "sdpa(math)",
                                          "sage2",
                                          "sage2(mean=full,smooth_v=off,v=channel,sum=fp32)",
                                          "sage2(arch=sm80)",
                                          "sage2(arch=sm89)",
                                          "sage2(arch=sm89,pv=fp8half)",
                                          "sage2(qk=int4)",
                                          "sage2(arch=sm80,qk=int4)",
                                          "reference"};
  tell_apart(specs);
  std::set<ImU32> colours;
  for (const auto& spec : specs) {
    EXPECT_TRUE(colours.insert(colour_of(spec)).second) << spec;
    EXPECT_EQ(colour_of("check(" + spec + ",sdpa)"), colour_of(spec)) << spec;
  }
  tell_apart({});
}

}  // namespace
}  // namespace sagelab::ui
