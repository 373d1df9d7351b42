// SPDX-License-Identifier: Apache-2.0
// Whole runs: broken off and gone on with, attention switched meanwhile, weights from another file.
#include <gtest/gtest.h>

#include "tests/pipelines/hunyuanvideo/pipeline_fixture.h"

namespace sagelab::hunyuanvideo {
namespace {

class Run : public ::testing::TestWithParam<std::tuple<const char*, const char*>> {};

// In bf16 the latents that it goes on with are of another dtype than those that it began with.
TEST_P(Run, GoesOnBitByBitWithItsSwitches) {
  const auto& [name, dtype] = GetParam();
  Request request = pipeline_request(name, "guided");
  request.dtype = dtype;
  request = hunyuanvideo_family().resolve(request);
  testing::expect_goes_on(hunyuanvideo_family(), request, 2 * Folder(request).transformer.blocks());
}

INSTANTIATE_TEST_SUITE_P(HunyuanVideo, Run,
                         ::testing::Combine(::testing::ValuesIn(kPipelineNames),
                                            ::testing::Values("fp32", "bf16")),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param);
                         });

TEST(HunyuanVideoRun, WeightsFromAnotherFile) {
  testing::expect_weights_from_another_file(hunyuanvideo_family(), pipeline_request("cut", "plain"));
}

}  // namespace
}  // namespace sagelab::hunyuanvideo
