// SPDX-License-Identifier: Apache-2.0
// The parity bounds can tell right from wrong: ours stays within the bound of diffusers' own result, and
// outside it of every result that diffusers gives with one thing wrong (tests/oracle/cogvideox/mutants.py).
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/pipelines/cogvideox/fixture.h"

namespace sagelab::cogvideox {
namespace {

using testing::Dump;

// How far a picture is from another, in units of what parity allows: 0.1 % of the values, none by more
// than 1.
double picture_distance(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return std::numeric_limits<double>::infinity();
  const at::Tensor off = (a.to(at::kInt) - b.to(at::kInt)).abs();
  const double largest = off.max().item<double>();
  const double share = off.ne(0).to(at::kDouble).mean().item<double>();
  return std::max(share / 0.001, largest > 1 ? largest : 0.0);
}

// One fixture's stages as we compute them, each from the dumped input before it, and each once.
class Ours {
 public:
  Ours(const std::string& name, const Dump& dump)
      : name_(name),
        request_(cogvideox_family().resolve(request_of(name))),
        pipeline_(request_),
        stages_{request_.model, dump} {}

  const at::Tensor& stage(const std::string& key) {
    const auto it = known_.find(key);
    if (it != known_.end()) return it->second;
    const c10::InferenceMode inference;
    return known_.emplace(key, compute(key)).first->second;
  }

 private:
  at::Tensor compute(const std::string& key) {
    if (key == "prompt_embeds") return pipeline_.encode(request_, run_.context).embeds.slice(0, -1);
    if (key == "forward.output") return stages_.forward(run_.context);
    if (key == "vae.sample") return stages_.decode(false);
    if (key == "vae.tiled_sample") return stages_.decode(true);
    if (key == "frames")
      return pixels_of(
          to_picture(pipeline_.decode(stages_.dump["ddim.guided.final"], request_, run_.context)));
    return denoise(key);
  }

  // "<scheduler>.<mode>.final", through the pipeline's own steps.
  at::Tensor denoise(const std::string& key) {
    const auto dot = key.find('.');
    const std::string mode = key.substr(dot + 1, key.rfind('.') - dot - 1);
    const Request r = in_mode(request_, name_, key.substr(0, dot), mode);
    const auto state = pipeline_.prepare(r, pipeline_.encode(r, run_.context), run_.context);
    return step_through(pipeline_, *state, run_.context).back();
  }

  std::string name_;
  Request request_;
  CogVideoX pipeline_;
  Stages stages_;
  OneRun run_;
  std::map<std::string, at::Tensor> known_;
};

double bound_of(const Dump& dump, const std::string& stage) {
  if (stage == "frames") return 1;
  if (stage.starts_with("vae.")) return 5e-6;
  if (stage.ends_with(".final")) return 1e-5;
  return testing::tolerance(dump, stage, 2e-6);
}

double distance(const std::string& stage, const at::Tensor& ours, const at::Tensor& theirs) {
  return stage == "frames" ? picture_distance(ours, theirs) : testing::relative_l2(ours, theirs);
}

struct Fixture {
  const char* name;
  size_t least;  // mutants: a list that shrinks must be noticed
};

class Mutation : public ::testing::TestWithParam<Fixture> {};

TEST_P(Mutation, EveryMutantFails) {
  const auto folder = testing::fixture("cogvideox", GetParam().name);
  const Dump dump(folder / "dump.safetensors"), mutants(folder / "mutants.safetensors");
  EXPECT_GE(mutants.tensors().size(), GetParam().least);
  Ours ours(GetParam().name, dump);
  fmt::print("{:<40} {:<20} {:>10} {:>10} {:>10}\n", "mutant", "stage", "ours", "allowed", "mutant");
  for (const auto& [label, wrong] : mutants.tensors()) {
    const auto bar = label.find('|');
    const std::string mutant = label.substr(0, bar), stage = label.substr(bar + 1);
    const double allowed = bound_of(dump, stage);
    const double right = distance(stage, ours.stage(stage), dump[stage]);
    const double off = distance(stage, ours.stage(stage), wrong);
    fmt::print("{:<40} {:<20} {:>10.1e} {:>10.1e} {:>10.1e}\n", mutant, stage, right, allowed, off);
    EXPECT_LE(right, allowed) << stage;
    EXPECT_GT(off, allowed) << mutant << " is within the bound of " << stage;
  }
}

INSTANTIATE_TEST_SUITE_P(CogVideoX, Mutation,
                         ::testing::Values(Fixture{"2b", 100}, Fixture{"5b", 52}, Fixture{"1.5", 34},
                                           Fixture{"long_even", 17}, Fixture{"long_odd", 14},
                                           Fixture{"odd_config", 68}),
                         [](const auto& info) { return test_name(info.param.name); });

}  // namespace
}  // namespace sagelab::cogvideox
