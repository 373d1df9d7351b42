// SPDX-License-Identifier: Apache-2.0
// Whole runs: broken off and gone on with, attention switched meanwhile, weights from another file.
#include <gtest/gtest.h>

#include "tests/pipelines/mochi/pipeline_fixture.h"

namespace sagelab::mochi {
namespace {

class Run : public ::testing::TestWithParam<testing::NameAndMode> {};  // mode: the dtype

TEST_P(Run, GoesOnBitByBitWithItsSwitches) {
  const auto& [name, dtype] = GetParam();
  Request request = kPipelines.request(name, "guided");
  request.dtype = dtype;
  request = kPipelines.family().resolve(request);
  testing::expect_goes_on(kPipelines.family(), request,
                          2 * Folder(request).transformer.layers);  // both sides
}

INSTANTIATE_TEST_SUITE_P(Mochi, Run,
                         ::testing::Combine(::testing::ValuesIn(kPipelines.names),
                                            ::testing::Values("fp32", "bf16")),
                         testing::name_and_mode);

TEST(MochiRun, WeightsFromAnotherFile) {
  testing::expect_weights_from_another_file(kPipelines.family(), kPipelines.request("cut", "plain"));
}

}  // namespace
}  // namespace sagelab::mochi
