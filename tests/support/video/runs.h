// SPDX-License-Identifier: Apache-2.0
// What the tests of video pipelines share: whole runs that are broken off and gone on with, weights from
// another file.
#pragma once

#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>

#include "pipelines/saved/checkpoint.h"
#include "tests/support/joint_only.h"
#include "tests/support/pictures/runs.h"

namespace sagelab::testing {

struct Stopped : std::runtime_error {
  Stopped() : std::runtime_error("stopped by the test") {}
};

struct Outcome {
  Result result;
  std::map<std::string, int64_t> calls;  // by who served them
};

// stop_at: the step after which the run dies; -1: it ends.
inline Outcome outcome_of(const Family& family, const Request& request, const Checkpoints& checkpoints = {},
                          int stop_at = -1) {
  OneRun one(request.attention);
  StepHooks hooks;
  hooks.after = [&](int i, const at::Tensor&) {
    if (i == stop_at) throw Stopped();
  };
  one.context.hooks = &hooks;
  one.context.checkpoints = &checkpoints;
  const auto pipeline = family.open(request, one.context);
  Outcome out{generate(*pipeline, request, "", one.context), {}};
  for (const auto& [name, served] : one.recorder.served()) out.calls[name] = served.calls;
  return out;
}

inline std::filesystem::path temporary_file(const std::string& name) {
  return std::filesystem::path(::testing::TempDir()) / (name + ".safetensors");
}

// The calls of attention of a first step, guidance among them. request: resolved.
inline std::vector<JointOnly::Seen> first_calls(const Family& family, const Request& request) {
  const c10::InferenceMode inference;
  const JointOnly backend;
  OneRun run;
  const auto pipeline = family.open(request, run.context);
  const auto state = pipeline->prepare(request, pipeline->encode(request, run.context), run.context);
  attention::Site site;
  site.branch = attention::Branch::Both;
  pipeline->predict(*state, 0, Forward{backend, run.recorder, site, {}});
  return backend.seen;
}

// Moves sizes to what a model makes of 16 pixels, and of 4 or 6 frames behind the first.
inline void expect_video_fit(const Family& family, Request request) {
  request.height = 89, request.width = 2, request.num_frames = 50;
  const Request fitted = family.fit(request);
  EXPECT_EQ(*fitted.height, 96);
  EXPECT_EQ(*fitted.width, 16);
  EXPECT_EQ(*fitted.num_frames, 49);
}

// A run that dies after its third step goes on bit by bit, and with the switches of attention that it had.
// request: resolved, of more than 3 steps; calls: of attention in a step.
inline void expect_goes_on(const Family& family, Request request, int64_t calls) {
  request.attention_at = {"1=sdpa(math)", "3=reference"};
  const std::string file = temporary_file(
      fmt::format("{}_{}_{}", family.name,
                  std::filesystem::path(request.model).parent_path().filename().string(), request.dtype));
  const Outcome whole = outcome_of(family, request);
  EXPECT_EQ(whole.calls, (std::map<std::string, int64_t>{{"sdpa(flash)", calls},
                                                         {"sdpa(math)", 2 * calls},
                                                         {"reference", (*request.steps - 3) * calls}}));
  EXPECT_THROW(outcome_of(family, request, {.every = 2, .file = file, .resume = {}}, 2), Stopped);
  const Checkpoint left = read_checkpoint(file);
  EXPECT_EQ(left.step, 2);
  const Outcome rest = outcome_of(family, left.request, {.every = 0, .file = {}, .resume = file});
  EXPECT_TRUE(at::equal(rest.result.latents, whole.result.latents));
  EXPECT_EQ(rest.result.picture->pixels, whole.result.picture->pixels);
  EXPECT_EQ(rest.calls, whole.calls);
  ASSERT_EQ(rest.result.switches.size(), 2u);
  EXPECT_EQ(rest.result.switches[1].at(), "3=reference");
  std::filesystem::remove(file);
}

// A file in place of a component is read: the same tensors give the same video, and damaged ones none.
// request: unresolved.
inline void expect_weights_from_another_file(const Family& family, Request request) {
  const std::filesystem::path own = std::filesystem::path(request.model) / "transformer",
                              file = temporary_file(family.name + "_transformer");
  std::filesystem::copy_file(own / "diffusion_pytorch_model.safetensors", file,
                             std::filesystem::copy_options::overwrite_existing);
  const Outcome plain = outcome_of(family, family.resolve(request));
  request.weights = {"transformer=" + file.string()};
  const Outcome given = outcome_of(family, family.resolve(request));
  EXPECT_EQ(given.result.picture->pixels, plain.result.picture->pixels);
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 4);
  EXPECT_THROW(outcome_of(family, family.resolve(request)), Error);
  std::filesystem::remove(file);
}

}  // namespace sagelab::testing
