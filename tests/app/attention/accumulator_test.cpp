// SPDX-License-Identifier: Apache-2.0
// `sagelab bench accumulator`: the real binary where there is no GPU for it.
#include <gmock/gmock.h>

#include "tests/app/program.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;

TEST(BenchAccumulatorCommand, NeedsAGpu) {
  const auto result = run_sagelab({"bench", "accumulator", "--device", "cpu"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(
      result.err,
      "sagelab: bench accumulator cannot run here: FP8 accumulators are those of NVIDIA GPUs from compute "
      "capability 8.9 on, not of cpu; run it on an Ada, Hopper or newer GPU\n");
}

TEST(BenchAccumulatorCommand, HelpSaysWhatItMeasures) {
  const auto result = run_sagelab({"bench", "accumulator", "--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, ::testing::HasSubstr("the bits that FP8 accumulators keep"));
}

}  // namespace
}  // namespace sagelab
