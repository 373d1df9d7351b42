// SPDX-License-Identifier: Apache-2.0
// The parity bounds of the pipeline can tell right from wrong: ours stays outside of them of every result
// that diffusers gives with one thing wrong (tests/oracle/flux/mistakes.py).
#include <gtest/gtest.h>

#include "tests/pipelines/flux/pipeline_fixture.h"
#include "tests/support/pictures/parity.h"

namespace sagelab::flux {
namespace {

using testing::PipelineMutation;

TEST_P(PipelineMutation, EveryMutantFails) {
  expect_every_mutant_fails(kPipelines, testing::stages_of(kPipelines, name, testing::text_stages));
}

INSTANTIATE_TEST_SUITE_P(Flux, PipelineMutation,
                         ::testing::Values(testing::LeastMutants{"schnell", 30},
                                           testing::LeastMutants{"dev", 37}),
                         testing::mutants_name);

}  // namespace
}  // namespace sagelab::flux
