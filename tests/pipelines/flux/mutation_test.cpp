// SPDX-License-Identifier: Apache-2.0
// The parity bounds can tell right from wrong: ours stays within the bound of diffusers' own result, and
// outside it of every result that diffusers gives with one thing wrong (tests/oracle/flux/mutants.py).
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/pipelines/flux/fixture.h"

namespace sagelab::flux {
namespace {

using testing::Dump;

// One stage as we compute it from the dumped inputs.
at::Tensor ours(const std::string& stage, const Dump& dump, const Transformer& model) {
  if (stage == "tokens") return pack(dump["latents"]);
  if (stage == "unpacked") return unpack(dump["output"], grid_of(dump));
  if (stage == "far.cos") return rope_table(model.config(), dump["text"].size(1), {2, 300}, Target{}).cos;
  at::Tensor seen;
  const at::Tensor output =
      run(model, inputs_of(dump, model.config()), [&](const auto& name, const auto& value) {
        if (name == stage) seen = value;
      });
  return stage == "output" ? output : seen;
}

double bound_of(const Dump& dump, const std::string& stage) {
  if (stage == "tokens" || stage == "unpacked" || stage == "far.cos") return 0;  // bit by bit
  return testing::tolerance(dump, stage, kBound);
}

struct Fixture {
  const char* name;
  size_t least;  // mutants: a list that shrinks must be noticed
};

class Mutation : public ::testing::TestWithParam<Fixture> {};

TEST_P(Mutation, EveryMutantFails) {
  const Dump dump = dump_of(GetParam().name);
  const Dump mutants(testing::fixture("flux", GetParam().name) / "mutants.safetensors");
  EXPECT_GE(mutants.tensors().size(), GetParam().least);
  const Transformer model = open(GetParam().name);
  std::map<std::string, at::Tensor> known;
  fmt::print("{:<40} {:<12} {:>10} {:>10} {:>10}\n", "mutant", "stage", "ours", "allowed", "mutant");
  for (const auto& [label, wrong] : mutants.tensors()) {
    const auto bar = label.find('|');
    const std::string mutant = label.substr(0, bar), stage = label.substr(bar + 1);
    if (!known.count(stage)) known[stage] = ours(stage, dump, model);
    const double allowed = bound_of(dump, stage);
    const double right = testing::relative_l2(known[stage], dump[stage]);
    const double off = testing::relative_l2(known[stage], wrong);
    fmt::print("{:<40} {:<12} {:>10.1e} {:>10.1e} {:>10.1e}\n", mutant, stage, right, allowed, off);
    EXPECT_LE(right, allowed) << stage;
    EXPECT_GT(off, 3 * allowed) << mutant << " is within reach of the bound of " << stage;
  }
}

INSTANTIATE_TEST_SUITE_P(Flux, Mutation,
                         ::testing::Values(Fixture{"schnell", 124}, Fixture{"dev", 130},
                                           Fixture{"odd_config", 114}, Fixture{"default_axes", 109}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace sagelab::flux
