// SPDX-License-Identifier: Apache-2.0
// Whole runs: broken off and gone on with, attention switched meanwhile, weights from another file.
#include <gtest/gtest.h>

#include "tests/pipelines/hunyuanvideo/pipeline_fixture.h"

namespace sagelab::hunyuanvideo {
namespace {

class Run : public ::testing::TestWithParam<testing::NameAndMode> {};  // mode: the dtype

// In bf16 the latents that it goes on with are of another dtype than those that it began with.
TEST_P(Run, GoesOnBitByBitWithItsSwitches) {
  const auto& [name, dtype] = GetParam();
  Request request = kPipelines.request(name, "guided");
  request.dtype = dtype;
  request = kPipelines.family().resolve(request);
  testing::expect_goes_on(kPipelines.family(), request, 2 * Folder(request).transformer.blocks());
}

INSTANTIATE_TEST_SUITE_P(HunyuanVideo, Run,
                         ::testing::Combine(::testing::ValuesIn(kPipelines.names),
                                            ::testing::Values("fp32", "bf16")),
                         testing::name_and_mode);

TEST(HunyuanVideoRun, WeightsFromAnotherFile) {
  testing::expect_weights_from_another_file(kPipelines.family(), kPipelines.request("cut", "plain"));
}

}  // namespace
}  // namespace sagelab::hunyuanvideo
