// SPDX-License-Identifier: Apache-2.0
// Skipped, with the reason, where there is no GPU.
#include <gtest/gtest.h>

#include <tuple>

#include "tests/pipelines/hunyuanvideo/pipeline_fixture.h"
#include "tests/support/pictures_on_gpu.h"

namespace sagelab::hunyuanvideo {
namespace {

class Bf16OnGpu : public ::testing::TestWithParam<std::tuple<const char*, const char*, const char*>> {};

TEST_P(Bf16OnGpu, EveryStageIsNoFartherThanDiffusers) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
  const auto& [name, mode, spec] = GetParam();
  Request request = pipeline_request(name, mode);
  request.attention = spec;
  testing::expect_no_farther_on_gpu(name, mode, hunyuanvideo_family(), pipeline_dump(name), request);
}

INSTANTIATE_TEST_SUITE_P(HunyuanVideo, Bf16OnGpu,
                         ::testing::Combine(::testing::ValuesIn(kPipelineNames), ::testing::ValuesIn(kModes),
                                            ::testing::Values("sdpa(flash)", "sdpa(cudnn)")));

}  // namespace
}  // namespace sagelab::hunyuanvideo
