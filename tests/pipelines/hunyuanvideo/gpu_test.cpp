// SPDX-License-Identifier: Apache-2.0
#include "tests/support/pictures/on_gpu.h"

#include "tests/pipelines/hunyuanvideo/pipeline_fixture.h"

namespace sagelab::hunyuanvideo {
namespace {

using testing::Bf16OnGpu;

TEST_P(Bf16OnGpu, EveryStageIsNoFartherThanDiffusers) {
  expect_no_farther(kPipelines);
}

INSTANTIATE_TEST_SUITE_P(HunyuanVideo, Bf16OnGpu, testing::every_mode_on_gpu(kPipelines));

}  // namespace
}  // namespace sagelab::hunyuanvideo
