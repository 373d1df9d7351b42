// SPDX-License-Identifier: Apache-2.0
// The parity bounds of the pipeline can tell right from wrong: ours stays outside of them of every result
// that diffusers gives with one thing wrong (tests/oracle/flux/mistakes.py).
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/pipelines/flux/pipeline_fixture.h"

namespace sagelab::flux {
namespace {

struct Fixture {
  const char* name;
  size_t least;  // mutants: a list that shrinks must be noticed
};

// Ours of every stage, by the dump's keys.
std::map<std::string, at::Tensor> stages_of(const std::string& name, const testing::Dump& dump) {
  std::map<std::string, at::Tensor> all;
  for (const std::string mode : kModes) {
    const Request request = flux_family().resolve(pipeline_request(name, mode));
    const testing::Steps steps = testing::steps_of(flux_family(), request);
    const bool guided = mode == "guided";
    all["pooled"] = steps.conditioning.pooled.slice(0, guided);
    all["embeds"] = steps.conditioning.embeds.slice(0, guided);
    if (guided) all["negative.pooled"] = steps.conditioning.pooled.slice(0, 0, 1);
    if (guided) all["negative.embeds"] = steps.conditioning.embeds.slice(0, 0, 1);
    all.merge(testing::picture_stages(flux_family(), request, steps, dump, mode));
  }
  return all;
}

class PipelineMutation : public ::testing::TestWithParam<Fixture> {};

TEST_P(PipelineMutation, EveryMutantFails) {
  const testing::Dump dump = pipeline_dump(GetParam().name);
  const testing::Dump mutants(pipeline_fixture(GetParam().name) / "mutants.safetensors");
  EXPECT_GE(mutants.tensors().size(), GetParam().least);
  testing::expect_mutants_fail(stages_of(GetParam().name, dump), dump, mutants, testing::pipeline_bound);
}

INSTANTIATE_TEST_SUITE_P(Flux, PipelineMutation,
                         ::testing::Values(Fixture{"schnell", 30}, Fixture{"dev", 37}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace sagelab::flux
