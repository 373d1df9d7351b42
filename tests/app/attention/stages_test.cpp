// SPDX-License-Identifier: Apache-2.0
// `sagelab bench stages`: the real binary where there is no GPU for it.
#include <gmock/gmock.h>

#include "tests/app/program.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;

TEST(BenchStagesCommand, NeedsHopper) {
  const auto result = run_sagelab({"bench", "stages", "--device", "cpu"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err,
            "sagelab: bench stages cannot run here: the kernel is Hopper's, and cpu is none; run it on a "
            "Hopper GPU\n");
}

TEST(BenchStagesCommand, OnlyItsHeadDimensions) {
  const auto result = run_sagelab({"bench", "stages", "--head-dim", "96"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, ::testing::HasSubstr("--head-dim"));
}

TEST(BenchStagesCommand, HelpSaysWhatItMeasures) {
  const auto result = run_sagelab({"bench", "stages", "--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, ::testing::HasSubstr("with one of its parts left out"));
}

}  // namespace
}  // namespace sagelab
