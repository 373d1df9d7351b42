// SPDX-License-Identifier: Apache-2.0
// A run that goes on from a checkpoint ends with the bits of one that never stopped.
#include "pipelines/saved/checkpoint.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "attention/error.h"
#include "pipelines/core/safetensors.h"
#include "tests/pipelines/cogvideox/fixture.h"

namespace sagelab::cogvideox {
namespace {

namespace fs = std::filesystem;

struct Stopped : std::runtime_error {
  Stopped() : std::runtime_error("stopped by the test") {}
};

struct Place {
  Place() {
    std::string name = (fs::temp_directory_path() / "sagelab-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
    path = name;
  }
  ~Place() { fs::remove_all(path); }
  fs::path path;
};

struct Outcome {
  Result result;
  std::map<std::string, int64_t> served;
};

class GoesOn : public ::testing::TestWithParam<std::tuple<const char*, const char*, const char*>> {
 protected:
  Place place_;
  std::string file_ = (place_.path / "c.safetensors").string();

  static Request short_request(const std::string& scheduler, const std::string& mode) {
    Request r = in_mode(request_of("2b"), "2b", scheduler, mode);
    r.width = 32, r.height = 32, r.num_frames = 5, r.steps = 5;
    return cogvideox_family().resolve(r);
  }
  // stop_at: the step after which the run dies; -1: it ends.
  Outcome run(const Request& request, const Checkpoints& checkpoints, int stop_at = -1) {
    OneRun one(request.attention);
    StepHooks hooks;
    hooks.after = [&](int i, const at::Tensor&) {
      if (i == stop_at) throw Stopped();
    };
    one.context.hooks = &hooks;
    one.context.checkpoints = &checkpoints;
    CogVideoX pipeline(request);
    Outcome out{generate(pipeline, request, "", one.context), {}};
    for (const auto& [name, served] : one.recorder.served()) out.served[name] = served.calls;
    return out;
  }
};

TEST_P(GoesOn, BitByBit) {
  const auto [scheduler, mode, dtype] = GetParam();
  Request request = short_request(scheduler, mode);
  request.dtype = dtype;
  request.attention_at = {"1=sdpa(math)", "4=reference"};
  const Outcome whole = run(request, {});
  EXPECT_THROW(run(request, {.every = 2, .file = file_, .resume = {}}, 2), Stopped);
  const Checkpoint left = read_checkpoint(file_);
  EXPECT_EQ(left.step, 2);
  EXPECT_EQ(left.sampler.size(), std::string(scheduler) == "dpm" ? 1u : 0u);
  EXPECT_EQ(left.request.attention_at, request.attention_at) << "the switch made, and the one to come";

  int made = 0;
  const Outcome rest = [&] {
    OneRun one(left.request.attention);
    StepHooks hooks;
    hooks.before = [&](int) { return ++made, at::Tensor(); };
    const Checkpoints checkpoints{.every = 2, .file = file_, .resume = file_};
    one.context.hooks = &hooks;
    one.context.checkpoints = &checkpoints;
    CogVideoX pipeline(left.request);
    Outcome out{generate(pipeline, left.request, "", one.context), {}};
    for (const auto& [name, served] : one.recorder.served()) out.served[name] = served.calls;
    return out;
  }();
  EXPECT_EQ(made, 3) << "steps 2, 3 and 4";
  EXPECT_TRUE(at::equal(rest.result.latents, whole.result.latents));
  EXPECT_EQ(rest.result.picture->pixels, whole.result.picture->pixels);
  EXPECT_EQ(rest.served, whole.served);
  EXPECT_EQ(rest.result.timings.steps.size(), 5u);
  ASSERT_EQ(rest.result.switches.size(), 2u);
  EXPECT_EQ(rest.result.switches[1].at(), "4=reference");
  EXPECT_EQ(read_checkpoint(file_).step, 4) << "it went on leaving them";
}

INSTANTIATE_TEST_SUITE_P(Samplers, GoesOn,
                         ::testing::Combine(::testing::Values("ddim", "dpm"),
                                            ::testing::Values("guided", "plain", "dynamic"),
                                            ::testing::Values("fp32", "bf16")),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param) + "_" +
                                  std::get<2>(info.param);
                         });

class CheckpointFile : public GoesOn {
 protected:
  std::string error(const std::string& file) {
    try {
      read_checkpoint(file);
    } catch (const Error& e) {
      return std::string(e.what()) + "; " + e.hint();
    }
    return "no error";
  }
  const std::string hint_ = "; give a file that generate --checkpoint-every wrote";
};

TEST_F(CheckpointFile, DamageAndOthersFilesAreSaid) {
  const Request request = short_request("dpm", "guided");
  EXPECT_THROW(run(request, {.every = 1, .file = file_, .resume = {}}, 2), Stopped);
  EXPECT_EQ(error(file_), "no error");
  std::stringstream stored;
  stored << std::ifstream(file_, std::ios::binary).rdbuf();
  const std::string bytes = stored.str();
  const auto with = [&](const std::string& changed) {
    std::ofstream(file_, std::ios::binary) << changed;
    return error(file_);
  };
  std::string flipped = bytes;
  flipped[flipped.size() - 9] = char(flipped[flipped.size() - 9] ^ 1);
  EXPECT_EQ(with(flipped), file_ + ": is damaged: its tensors are not those that were written" + hint_);
  EXPECT_NE(with(bytes.substr(0, bytes.size() - 8)), "no error");
  EXPECT_EQ(with("short"), file_ + ": has 5 bytes: too short for a safetensors file" + hint_);
  EXPECT_EQ(error("/nowhere/c"), "/nowhere/c: cannot be read: No such file or directory" + hint_);

  const auto text = to_json(request).dump();
  write_safetensors(file_, {{"latents", at::ones({1})}}, {{"request", text}});
  EXPECT_EQ(error(file_), file_ + ": holds finished latents: there are no steps left to make" + hint_);
  write_safetensors(file_, {{"weight", at::ones({1})}});
  EXPECT_EQ(error(file_), file_ + ": is no checkpoint" + hint_);
  write_safetensors(file_, {{"latents", at::ones({1})}},
                    {{"request", text}, {"checkpoint", "{\"step\": 1}"}});
  EXPECT_EQ(error(file_), file_ + ": what it says of its run is damaged" + hint_);
  EXPECT_THROW(read_latents(file_), Error) << "latents of a run that has steps left are not finished";
}

TEST_F(CheckpointFile, AnotherRunsDoesNotFit) {
  const Request request = short_request("dpm", "guided");
  EXPECT_THROW(run(request, {.every = 1, .file = file_, .resume = {}}, 2), Stopped);
  const auto refused = [&](Request other) {
    other = cogvideox_family().resolve(other);
    try {
      run(other, {.every = 0, .file = {}, .resume = file_});
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  Request other = request;
  other.steps = 6;
  EXPECT_EQ(refused(other),
            "the checkpoint is of 5 steps and F32 latents [1, 2, 16, 4, 4], and this run has 6 and F32 "
            "[1, 2, 16, 4, 4]");
  other = request;
  other.dtype = "bf16";
  EXPECT_EQ(refused(other),
            "the checkpoint is of 5 steps and F32 latents [1, 2, 16, 4, 4], and this run has 5 and BF16 "
            "[1, 2, 16, 4, 4]");
  other = request;
  other.options["scheduler"] = std::string("ddim");
  EXPECT_EQ(refused(other), "the sampler keeps no \"previous\"");
}

TEST_F(CheckpointFile, ADiskThatIsGoneIsNoReasonToStop) {
  const Request request = short_request("ddim", "plain");
  const Outcome out = run(request, {.every = 2, .file = "/nowhere/c.safetensors", .resume = {}});
  ASSERT_EQ(out.result.notices.size(), 1u) << "once for all checkpoints";
  EXPECT_EQ(out.result.notices[0],
            "no checkpoint: cannot write /nowhere/c.safetensors: No such file or directory");
}

}  // namespace
}  // namespace sagelab::cogvideox
