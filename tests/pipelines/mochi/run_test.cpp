// SPDX-License-Identifier: Apache-2.0
// Whole runs: broken off and gone on with, attention switched meanwhile, weights from another file.
#include <gtest/gtest.h>

#include "tests/pipelines/mochi/pipeline_fixture.h"

namespace sagelab::mochi {
namespace {

class Run : public ::testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(Run, GoesOnBitByBitWithItsSwitches) {
  const auto& [name, dtype] = GetParam();
  Request request = pipeline_request(name, "guided");
  request.dtype = dtype;
  request = mochi_family().resolve(request);
  testing::expect_goes_on(mochi_family(), request, 2 * Folder(request).transformer.layers);  // both sides
}

INSTANTIATE_TEST_SUITE_P(
    Mochi, Run, ::testing::Combine(::testing::ValuesIn(kPipelineNames), ::testing::Values("fp32", "bf16")),
    [](const auto& info) { return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param); });

TEST(MochiRun, WeightsFromAnotherFile) {
  testing::expect_weights_from_another_file(mochi_family(), pipeline_request("cut", "plain"));
}

}  // namespace
}  // namespace sagelab::mochi
