// SPDX-License-Identifier: Apache-2.0
// Whole runs: broken off and gone on with, attention switched meanwhile, weights from another file.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "pipelines/saved/checkpoint.h"
#include "tests/pipelines/mochi/pipeline_fixture.h"

namespace sagelab::mochi {
namespace {

using testing::OneRun;

struct Stopped : std::runtime_error {
  Stopped() : std::runtime_error("stopped by the test") {}
};

struct Outcome {
  Result result;
  std::map<std::string, int64_t> calls;  // by who served them
};

// stop_at: the step after which the run dies; -1: it ends.
Outcome run(const Request& request, const Checkpoints& checkpoints = {}, int stop_at = -1) {
  OneRun one(request.attention);
  StepHooks hooks;
  hooks.after = [&](int i, const at::Tensor&) {
    if (i == stop_at) throw Stopped();
  };
  one.context.hooks = &hooks;
  one.context.checkpoints = &checkpoints;
  Mochi pipeline(request);
  Outcome out{generate(pipeline, request, "", one.context), {}};
  for (const auto& [name, served] : one.recorder.served()) out.calls[name] = served.calls;
  return out;
}

class Run : public ::testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(Run, GoesOnBitByBitWithItsSwitches) {
  const auto& [name, dtype] = GetParam();
  Request request = pipeline_request(name, "guided");
  request.dtype = dtype;
  request = mochi_family().resolve(request);
  request.attention_at = {"1=sdpa(math)", "3=reference"};
  const std::string file = std::string(::testing::TempDir()) + "mochi_" + name + "_" + dtype + ".safetensors";
  const Outcome whole = run(request);
  const int64_t step = 2 * Folder(request).transformer.layers;  // both sides
  EXPECT_EQ(whole.calls, (std::map<std::string, int64_t>{{"sdpa(flash)", step},
                                                         {"sdpa(math)", 2 * step},
                                                         {"reference", (*request.steps - 3) * step}}));
  EXPECT_THROW(run(request, {.every = 2, .file = file, .resume = {}}, 2), Stopped);
  const Checkpoint left = read_checkpoint(file);
  EXPECT_EQ(left.step, 2);
  const Outcome rest = run(left.request, {.every = 0, .file = {}, .resume = file});
  EXPECT_TRUE(at::equal(rest.result.latents, whole.result.latents));
  EXPECT_EQ(rest.result.picture->pixels, whole.result.picture->pixels);
  EXPECT_EQ(rest.calls, whole.calls);
  ASSERT_EQ(rest.result.switches.size(), 2u);
  EXPECT_EQ(rest.result.switches[1].at(), "3=reference");
  std::filesystem::remove(file);
}

INSTANTIATE_TEST_SUITE_P(
    Mochi, Run, ::testing::Combine(::testing::ValuesIn(kPipelineNames), ::testing::Values("fp32", "bf16")),
    [](const auto& info) { return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param); });

// A file in place of a component is read: the same tensors give the same video, and damaged ones none.
TEST(MochiRun, WeightsFromAnotherFile) {
  Request request = pipeline_request("cut", "plain");
  const std::filesystem::path own = std::filesystem::path(request.model) / "transformer",
                              file = std::filesystem::path(::testing::TempDir()) /
                                     "mochi_transformer.safetensors";
  std::filesystem::copy_file(own / "diffusion_pytorch_model.safetensors", file,
                             std::filesystem::copy_options::overwrite_existing);
  const Outcome plain = run(mochi_family().resolve(request));
  request.weights = {"transformer=" + file.string()};
  const Outcome given = run(mochi_family().resolve(request));
  EXPECT_EQ(given.result.picture->pixels, plain.result.picture->pixels);
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 4);
  EXPECT_THROW(run(mochi_family().resolve(request)), Error);
  std::filesystem::remove(file);
}

}  // namespace
}  // namespace sagelab::mochi
