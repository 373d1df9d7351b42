// SPDX-License-Identifier: Apache-2.0
// The main job on a genuine folder: the binary against diffusers' own frames, and every way it may be told to
// stop.
#include <gmock/gmock.h>
#include <signal.h>
#include <torch/headeronly/version.h>

#include <thread>

#include "app/session.h"
#include "tests/app/cli/end_to_end.h"
#include "tests/app/cli/read_frames.h"
#include "tests/support/parity.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;

TEST_F(EndToEnd, AFolderHoldsDiffusersFrames) {
  const auto result = run_sagelab(generate({"--output", at("frames") + "/", "--report", at("r.json")}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Dump dump(kFixture / "dump.safetensors");
  const auto theirs = dump["frames"].to(at::kInt),
             ours = read_frames(folder_ / "frames", theirs.size(0)).to(at::kInt);
  ASSERT_EQ(ours.sizes(), theirs.sizes());
  const auto off = (ours - theirs).abs();
  EXPECT_LE(off.max().item<int>(), 1);
  EXPECT_GE(off.eq(0).to(at::kDouble).mean().item<double>(), 0.999);
  EXPECT_EQ(folder_.names(), (std::set<std::string>{"frames", "r.json"}))
      << "kept latents were not asked for";
  const auto stored = json::parse(read_file(folder_ / "frames/request.json"));
  EXPECT_EQ(stored.at("seed"), request_.at("seed"));
  EXPECT_EQ(stored.at("dtype"), "fp32") << "stored resolved";
}

TEST_F(EndToEnd, TheReportAccountsForTheRun) {
  const auto result = run_sagelab(
      generate({"--output", at("f") + "/", "--report", at("r.json"), "--latents", at("z.safetensors")}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto report = json::parse(read_file(folder_ / "r.json"));
  const int steps = request_.at("steps").get<int>();
  EXPECT_EQ(report.at("steps").size(), size_t(steps));
  for (const auto& step : report.at("steps")) EXPECT_GT(step.at("seconds").get<double>(), 0);
  const auto& seconds = report.at("seconds");
  for (const auto* phase : {"load", "encode", "denoise", "decode", "write"})
    EXPECT_GT(seconds.at(phase).get<double>(), 0) << phase;
  EXPECT_GE(seconds.at("total").get<double>(),
            seconds.at("denoise").get<double>() + seconds.at("decode").get<double>());
  const auto config = json::parse(read_file(kFixture / "model/transformer/config.json"));
  int64_t calls = 0;
  for (const auto& [backend, served] : report.at("attention").at("served").items())
    calls += served.at("calls").get<int64_t>();
  EXPECT_EQ(calls, config.at("num_layers").get<int64_t>() * steps);
  EXPECT_EQ(report.at("versions").at("torch"), TORCH_VERSION);
  EXPECT_EQ(report.at("latents"), at("z.safetensors"));
  EXPECT_TRUE(fs::exists(folder_ / "z.safetensors"));
}

// At a size where LibTorch gives the decoder's large convolutions to oneDNN; its other CPU path unfolds its
// input.
TEST_F(EndToEnd, ADryRunPredictsWhatTheRunTakes) {
  const std::vector<std::string> size{"--height", "160", "--width", "80", "--steps", "1"};
  auto dry_arguments = generate({"--output", at("f") + "/", "--dry-run", "--json"});
  auto arguments = generate({"--output", at("f") + "/", "--json"});
  dry_arguments.insert(dry_arguments.end(), size.begin(), size.end());
  arguments.insert(arguments.end(), size.begin(), size.end());
  const auto dry = run_sagelab(dry_arguments);
  ASSERT_EQ(dry.exit_code, 0) << dry.err;
  EXPECT_EQ(folder_.names(), std::set<std::string>{}) << "a dry run writes nothing";
  const auto plan = json::parse(dry.out);
  EXPECT_EQ(plan.at("forwards"), 2);
  EXPECT_EQ(plan.at("writes"),
            json::array({at("f.latents.safetensors") + " (until the output is written)", at("f") + "/"}));

  const auto run = run_sagelab(arguments);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto memory = json::parse(run.out).at("memory");
  const double measured = memory.at("peak_bytes"), predicted = plan.at("predicted_peak_bytes");
  EXPECT_NEAR(predicted / measured, 1, 0.15) << memory.dump() << plan.dump();
}

TEST_F(EndToEnd, KeptLatentsDecodeToTheSameFrames) {
  ASSERT_EQ(run_sagelab(generate({"--output", at("a") + "/", "--latents", at("z.safetensors")})).exit_code,
            0);
  const auto again =
      run_sagelab({"generate", "--from-latents", at("z.safetensors"), "--output", at("b") + "/"});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  const auto count = request_.at("num_frames").get<int64_t>();
  EXPECT_TRUE(at::equal(read_frames(folder_ / "a", count), read_frames(folder_ / "b", count)));
  EXPECT_TRUE(fs::exists(folder_ / "z.safetensors"));
}

TEST_F(EndToEnd, InterruptedRunsLeaveNothing) {
  const Program program(generate({"--output", at("f") + "/", "--steps", "1000"}));
  while (program.err_so_far().find("denoise 2/") == std::string::npos) {
    ASSERT_EQ(::kill(program.pid(), 0), 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  ::kill(program.pid(), SIGINT);
  const auto result = program.wait();
  EXPECT_EQ(result.exit_code, 130) << result.err;
  EXPECT_TRUE(result.err.ends_with("sagelab: cancelled\n")) << result.err;
  EXPECT_EQ(folder_.names(), std::set<std::string>{});
}

TEST_F(EndToEnd, ASwitchWhileItRunsIsInTheSpans) {
  Session session;
  Request request;
  request.model = kFixture / "model";
  request.prompt = request_.at("prompt").get<std::string>();
  request.width = request_.at("width").get<int>();
  request.height = request_.at("height").get<int>();
  request.num_frames = request_.at("num_frames").get<int>();
  request.steps = 6;
  request.device = "cpu";
  request.attention = "sdpa(math)";
  session.submit(request);
  json report;
  while (report.is_null()) {
    const auto progress = session.wait(std::chrono::milliseconds(200));
    if (!progress) continue;
    if (const auto* step = std::get_if<Step>(&progress->what); step && step->i == 2) {
      EXPECT_TRUE(session.set_attention("reference"));
    }
    if (const auto* finished = std::get_if<Finished>(&progress->what)) report = finished->frames.report;
    if (const auto* failed = std::get_if<Failed>(&progress->what)) FAIL() << failed->message;
  }
  const auto& spans = report.at("attention").at("spans");
  ASSERT_EQ(spans.size(), 2u) << spans.dump();
  EXPECT_EQ(spans[0].at("backend"), "sdpa(math)");
  EXPECT_EQ(spans[1].at("backend"), "reference");
  EXPECT_GE(spans[0].at("steps")[1], 1);
  EXPECT_EQ(spans[1].at("steps")[0].get<int>(), spans[0].at("steps")[1].get<int>() + 1)
      << "no forward mixes two";
  EXPECT_EQ(spans[1].at("steps")[1], 5);
}

TEST_F(EndToEnd, LatentsThatAreThereAreNeitherOverwrittenNorRemoved) {
  write_file(folder_ / "f.latents.safetensors", "kept");
  const auto result = run_sagelab(generate({"--output", at("f/"), "--steps", "1"}));
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(folder_.names(), (std::set<std::string>{"f", "f.latents.safetensors"}));
  EXPECT_EQ(read_file(folder_ / "f.latents.safetensors"), "kept");
}

TEST_F(EndToEnd, APromptThatIsCutIsSaid) {
  std::string prompt;
  for (int i = 0; i < 600; ++i) prompt += "fox ";
  const auto result = run_sagelab(
      generate({"--output", at("f/"), "--steps", "1", "--prompt", prompt, "--report", at("r.json")}));
  EXPECT_EQ(result.exit_code, 0);
  const std::string notice = "the prompt is cut at 226 tokens (max_sequence_length)";
  EXPECT_NE(result.err.find("sagelab: " + notice + "\n"), std::string::npos) << result.err;
  EXPECT_EQ(json::parse(read_file(folder_ / "r.json")).at("notices"), json::array({notice}));
}

TEST_F(EndToEnd, DecodingAgainTakesItsOwnFlagsOnly) {
  ASSERT_EQ(run_sagelab(generate({"--output", at("a/"), "--latents", at("z.safetensors"), "--steps", "1"}))
                .exit_code,
            0);
  const auto refused = [&](const std::vector<std::string>& more, const std::string& message) {
    std::vector<std::string> all{"generate", "--from-latents", at("z.safetensors")};
    all.insert(all.end(), more.begin(), more.end());
    const auto result = run_sagelab(all);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(result.err, "sagelab: " + message + "\n");
  };
  refused({"--seed", "3"}, "--seed has no effect with --from-latents: nothing is denoised; leave it out");
  refused({"--use-dynamic-cfg"},
          "--use-dynamic-cfg has no effect with --from-latents: nothing is denoised; leave it out");
  refused({"--dry-run", "--output", at("b/")},
          "--dry-run tells of a run from noise, and --from-latents makes none; leave one of them out");
  write_file(folder_ / "z.safetensors", "cut");
  const auto result = run_sagelab({"generate", "--from-latents", at("z.safetensors"), "--output", at("b/")});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.err, "sagelab: " + at("z.safetensors") +
                            ": has 3 bytes: too short for a safetensors file; give a latents file that this "
                            "program wrote\n");
}

// Headers without data, as large as what is released.
TEST_F(EndToEnd, FullSizeFoldersAreToldOfWithoutLoading) {
  const auto full = fs::path(SAGELAB_FIXTURES) / "full_size";
  for (const std::string name : {"cogvideox_2b", "cogvideox_5b", "cogvideox_1.5"}) {
    const auto info = run_sagelab({"info", "--model", full / name, "--json"});
    ASSERT_EQ(info.exit_code, 0) << info.err;
    EXPECT_EQ(json::parse(info.out).at("model").at("missing"), json::array()) << name;
    const auto dry = run_sagelab(
        {"generate",  "--model",   full / name, "--prompt",     "a fox",    "--device", "cpu",
         "--dtype",   "bf16",      "--width",   "720",          "--height", "480",      "--num-frames",
         "49",        "--offload", "encoders",  "--vae-tiling", "on",       "--output", at("x/"),
         "--preview", "5",         "--dry-run", "--json"});
    ASSERT_EQ(dry.exit_code, 0) << dry.err;
    const auto plan = json::parse(dry.out);
    EXPECT_EQ(plan.at("forwards"), 100);
    EXPECT_GT(plan.at("predicted_peak_bytes"), 9'000'000'000) << "the text encoder alone takes 9.5 GB";
    EXPECT_EQ(plan.at("writes"),
              json::array({at("x.preview.png"),
                           at("x.latents.safetensors") + " (until the output is written)", at("x") + "/"}));
  }
  EXPECT_EQ(folder_.names(), std::set<std::string>{});
}

TEST_F(EndToEnd, AFullDiskAtTheEndKeepsTheLatents) {
  const auto result = run_sagelab(
      generate({"--output", at("f") + "/", "--latents", at("z.safetensors"), "--report", "/dev/full"}));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_TRUE(
      result.err.ends_with("sagelab: cannot write /dev/full: No space left on device; free some space in "
                           "/dev, or choose another place\n"))
      << result.err;
  EXPECT_EQ(folder_.names(), (std::set<std::string>{"f", "z.safetensors"}));
}

}  // namespace
}  // namespace sagelab
