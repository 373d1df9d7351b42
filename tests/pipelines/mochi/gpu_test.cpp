// SPDX-License-Identifier: Apache-2.0
#include "tests/support/pictures/on_gpu.h"

#include "tests/pipelines/mochi/pipeline_fixture.h"

namespace sagelab::mochi {
namespace {

using testing::Bf16OnGpu;

TEST_P(Bf16OnGpu, EveryStageIsNoFartherThanDiffusers) {
  expect_no_farther(kPipelines);
}

INSTANTIATE_TEST_SUITE_P(Mochi, Bf16OnGpu, testing::every_mode_on_gpu(kPipelines));

}  // namespace
}  // namespace sagelab::mochi
