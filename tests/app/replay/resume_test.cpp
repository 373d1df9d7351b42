// SPDX-License-Identifier: Apache-2.0
// The real binary: runs that stop and go on, and finished latents that are decoded later.
#include <fmt/format.h>
#include <signal.h>

#include <thread>

#include "tests/app/replay/command.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using Names = std::set<std::string>;

class Resume : public ShortRuns {
 protected:
  json frames_of(const std::string& folder) const { return stored(folder).at("made").at("frames"); }
  // A run that is killed by the signal once its second checkpoint may be there.
  ProgramResult stopped(int signal, const std::vector<std::string>& more = {}) const {
    auto all = command("generate", {"--output", at("f/"), "--steps", "400", "--checkpoint-every", "2"});
    all.insert(all.end(), more.begin(), more.end());
    const Program program(all);
    while (program.err_so_far().find("denoise 5/") == std::string::npos && ::kill(program.pid(), 0) == 0 &&
           !fs::exists(folder_ / "f/request.json"))
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    ::kill(program.pid(), signal);
    return program.wait();
  }
};

TEST_F(Resume, AnInterruptedRunGoesOn) {
  const auto file = at("f.checkpoint.safetensors");
  const auto result = stopped(SIGINT, {"--scheduler", "dpm"});
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_THAT(result.err,
              EndsWith("sagelab: cancelled\nsagelab: go on with: sagelab generate --resume " + file + "\n"));
  EXPECT_EQ(folder_.names(), Names{"f.checkpoint.safetensors"});
  const auto rest = run_sagelab({"generate", "--resume", file, "--report", at("r.json")});
  ASSERT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_THAT(rest.err, HasSubstr("sagelab: goes on after step "));
  EXPECT_EQ(folder_.names(), (Names{"f", "r.json"})) << "the checkpoint goes once the output is there";
  EXPECT_EQ(json::parse(read_file(folder_ / "r.json")).at("steps").size(), 400u);
  generate({"--output", at("whole/"), "--steps", "400", "--scheduler", "dpm"});
  EXPECT_EQ(frames_of("f"), frames_of("whole"));
  EXPECT_EQ(stored("f").at("made"), stored("whole").at("made"));
}

TEST_F(Resume, AKilledRunGoesOn) {
  stopped(SIGKILL);
  const auto file = at("f.checkpoint.safetensors");
  ASSERT_TRUE(fs::exists(file));
  const auto rest = run_sagelab({"generate", "--resume", file, "--output", at("g/")});
  ASSERT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_FALSE(fs::exists(file));
  generate({"--output", at("whole/"), "--steps", "400"});
  EXPECT_EQ(frames_of("g"), frames_of("whole"));
}

TEST_F(Resume, ACompleteRunLeavesNothing) {
  generate({"--output", at("f/"), "--checkpoint-every", "1"});
  EXPECT_EQ(folder_.names(), Names{"f"});
  write_file(folder_ / "g.checkpoint.safetensors", "of another run");
  generate({"--output", at("g/"), "--checkpoint-every", "1"});
  EXPECT_EQ(read_file(folder_ / "g.checkpoint.safetensors"), "of another run");
  const auto dry = run_sagelab(
      command("generate", {"--output", at("h/"), "--checkpoint-every", "1", "--dry-run", "--json"}));
  EXPECT_THAT(dry.out, HasSubstr("h.checkpoint.safetensors (until the output is written)")) << dry.err;
}

TEST_F(Resume, WrongUseIsSaid) {
  generate({"--output", at("a/"), "--latents", at("z.safetensors"), "--steps", "1"});
  const auto fails = [&](std::vector<std::string> arguments, int exit_code, const std::string& error) {
    const auto result = run_sagelab(std::move(arguments));
    EXPECT_EQ(result.exit_code, exit_code);
    EXPECT_EQ(result.err, "sagelab: " + error + "\n");
  };
  const auto z = at("z.safetensors");
  fails({"generate", "--resume", z}, 1,
        z + ": holds finished latents: there are no steps left to make; give a file that generate "
            "--checkpoint-every wrote");
  fails({"generate", "--resume", z, "--seed", "3"}, 2,
        "--seed has no effect with --resume: the run goes on as it began; leave it out");
  fails({"generate", "--resume", z, "--dtype", "bf16"}, 2,
        "--dtype has no effect with --resume: the run goes on as it began; leave it out");
  fails({"generate", "--from-latents", z, "--checkpoint-every", "1"}, 2,
        "--checkpoint-every has no effect with --from-latents: nothing is denoised; leave it out");
  EXPECT_EQ(run_sagelab({"generate", "--from-latents", z, "--resume", z}).exit_code, 2);
  EXPECT_EQ(run_sagelab(command("generate", {"--checkpoint-every", "0"})).exit_code, 2);
  stopped(SIGKILL);
  const auto result =
      run_sagelab({"decode", "--latents", at("f.checkpoint.safetensors"), "--output", at("g/")});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("is of a run that has steps left, go on from it with generate --resume"));
}

TEST_F(Resume, LatentsAreDecodedLater) {
  generate({"--output", at("a/"), "--latents", at("z.safetensors"), "--attention", "sdpa(math)",
            "--attention-at", "2=sage2"});
  const auto decoded = run_sagelab({"decode", "--latents", at("z.safetensors"), "--output", at("b/")});
  ASSERT_EQ(decoded.exit_code, 0) << decoded.err;
  EXPECT_EQ(stored("a").at("made"), stored("b").at("made")) << "who denoised is known";
  EXPECT_TRUE(fs::exists(folder_ / "z.safetensors"));
  const auto again = replay({at("b")});
  EXPECT_EQ(again.exit_code, 0) << again.out << again.err;
  const auto half =
      run_sagelab({"decode", "--latents", at("z.safetensors"), "--dtype", "bf16", "--output", at("c/")});
  ASSERT_EQ(half.exit_code, 0) << half.err;
  const auto apart = replay({at("c")});
  EXPECT_EQ(apart.exit_code, 1);
  EXPECT_THAT(apart.out, HasSubstr("  it was denoised on cpu in fp32, and decoded apart on "));
  EXPECT_EQ(run_sagelab({"decode", "--output", at("d/")}).exit_code, 2) << "latents are required";
  EXPECT_EQ(run_sagelab({"decode", "--latents", at("z.safetensors"), "--seed", "3"}).exit_code, 2);
}

// Stopped while it decodes: the steps are not lost, and the way on is said.
TEST_F(Resume, TheCommandThatDecodesIsSaid) {
  const auto disk = folder_ / "it's";
  fs::create_directory(disk);
  auto all =
      command("generate", {"--output", (disk / "f/").string(), "--checkpoint-every", "1", "--steps", "2"});
  const Program program(all);
  const auto latents = disk / "f.latents.safetensors";
  while (!fs::exists(latents) && ::kill(program.pid(), 0) == 0 && !fs::exists(disk / "f"))
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  ::kill(program.pid(), SIGINT);
  const auto result = program.wait();
  if (result.exit_code == 0) GTEST_SKIP() << "it was done before it could be stopped";
  EXPECT_EQ(result.exit_code, 130);
  const auto quoted = [&](const std::string& name) {
    return fmt::format("'{}/it'\\''s/{}'", folder_.path().string(), name);
  };
  EXPECT_THAT(result.err, EndsWith("sagelab: decode them with: sagelab decode --latents " +
                                   quoted("f.latents.safetensors") + " --output " + quoted("f/") + "\n"));
  EXPECT_FALSE(fs::exists(disk / "f.checkpoint.safetensors")) << "no steps are left";
}

}  // namespace
}  // namespace sagelab
