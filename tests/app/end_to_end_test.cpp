// SPDX-License-Identifier: Apache-2.0
// The main job on a genuine folder: the binary against diffusers' own frames, and every way it may be told to
// stop.
#include <gmock/gmock.h>
#include <signal.h>
#include <torch/headeronly/version.h>

#include <thread>

#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_PNG
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image.h>
#pragma GCC diagnostic pop

#include "app/session.h"
#include "tests/app/support.h"
#include "tests/support/parity.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using nlohmann::json;

const fs::path kFixture = fs::path(SAGELAB_FIXTURES) / "cogvideox" / "5b";

class EndToEnd : public ::testing::Test {
 protected:
  TempFolder folder_;
  json request_ = json::parse(read_file(kFixture / "request.json"));

  std::string at(const std::string& name) const { return (folder_ / name).string(); }

  std::vector<std::string> generate(std::vector<std::string> more) const {
    const auto number = [&](const char* key) { return request_.at(key).dump(); };
    std::vector<std::string> all{"generate",
                                 "--model",
                                 (kFixture / "model").string(),
                                 "--prompt",
                                 request_.at("prompt").get<std::string>(),
                                 "--negative-prompt",
                                 request_.at("negative_prompt").get<std::string>(),
                                 "--width",
                                 number("width"),
                                 "--height",
                                 number("height"),
                                 "--num-frames",
                                 number("num_frames"),
                                 "--steps",
                                 number("steps"),
                                 "--guidance-scale",
                                 number("guidance_scale"),
                                 "--seed",
                                 number("seed"),
                                 "--device",
                                 "cpu",
                                 "--scheduler",
                                 "ddim"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};

at::Tensor read_frames(const fs::path& folder, int64_t count) {
  std::vector<at::Tensor> frames;
  for (int64_t t = 0; t < count; ++t) {
    int w = 0, h = 0, channels = 0;
    auto* pixels = stbi_load((folder / fmt::format("frame_{:04}.png", t)).c_str(), &w, &h, &channels, 3);
    if (!pixels) throw std::runtime_error("no frame " + std::to_string(t));
    frames.push_back(at::from_blob(pixels, {h, w, 3}, at::kByte).clone());
    stbi_image_free(pixels);
  }
  return at::stack(frames);
}

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

TEST_F(EndToEnd, WhatCannotBeWrittenIsKnownBeforeTheRun) {
  const auto fails = [&](std::vector<std::string> more, int exit_code, const std::string& message) {
    const auto result = run_sagelab(generate(std::move(more)));
    EXPECT_EQ(result.exit_code, exit_code);
    EXPECT_EQ(result.err, "sagelab: " + message + "\n");
    EXPECT_EQ(folder_.names(), std::set<std::string>{});
  };
  fails({"--output", at("no/x.png.d/")}, 1,
        "cannot write " + at("no/x.png.d") + ": No such file or directory; make the folder " + at("no") +
            " first, or choose another place");
  fails({"--output", at("f/"), "--report", at("no/r.json")}, 1,
        "cannot write " + at("no/r.json") + ": No such file or directory; make the folder " + at("no") +
            " first, or choose another place");
  fails({"--output", at("x.png")}, 1,
        fmt::format(
            "a PNG holds one frame, this request makes {}; use --output x.mp4 or folder/, or --num-frames 1",
            request_.at("num_frames").dump()));
  fails({"--output", at("x.avi")}, 2,
        "--output " + at("x.avi") +
            " is of no known kind; name it x.mp4, x.png (one frame) or folder/ (PNG frames)");
  fails({"--attention", "nonsense", "--output", at("f/")}, 2,
        "attention 'nonsense': there is no backend 'nonsense' at position 1; there are sdpa, reference, "
        "prefer, check, "
        "timed, schedule");
  fails({"--max-sequence-length", "0"}, 2,
        "--max-sequence-length: Value 0 not in range 1 to 4096; see sagelab generate --help");
  fails({"--device", "tpu"}, 2, "--device: tpu not in {auto,cpu,cuda,cuda:N}; see sagelab generate --help");
  fails({"--request", at("r.json")}, 1,
        "--request: " + at("r.json") +
            ": no such file; give it a JSON file like the request.json of a frames folder");
  fails({"--dtype", "int8"}, 2, "--dtype: int8 not in {auto,fp32,fp16,bf16}; see sagelab generate --help");
  fails({"--prompt", "a\xff"}, 2, "the prompt is not UTF-8: byte 0xff at position 1; pass the text in UTF-8");
}

TEST_F(EndToEnd, NoGpu) {
  if (at::hasCUDA()) GTEST_SKIP() << "this machine has one";
  const auto result = run_sagelab(generate({"--output", at("f/"), "--device", "cuda"}));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, ::testing::MatchesRegex(
                              "sagelab: device cuda was asked for, but there is none: [^\n]+; use --device "
                              "cpu, or run on a machine with an NVIDIA GPU and its driver\n"));
}

TEST_F(EndToEnd, InfoListsEverythingThatIsMissing) {
  const auto model = folder_ / "model";
  fs::copy(kFixture / "model", model, fs::copy_options::recursive);
  fs::remove_all(model / "tokenizer");
  std::vector<std::string> lost{(model / "tokenizer").string() + ": the folder is missing"};
  for (const auto& entry : fs::directory_iterator(model / "transformer")) {
    const auto name = entry.path().filename().string();
    if (!name.ends_with(".safetensors")) continue;
    fs::remove(entry.path());
    lost.push_back(entry.path().string() + ": the shard is missing");
  }
  for (const auto& entry : fs::directory_iterator(model / "vae"))
    if (entry.path().filename().string().find("-00001-of-") != std::string::npos)
      fs::resize_file(entry.path(), 100);
  const auto result = run_sagelab({"info", "--model", model, "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto info = json::parse(result.out).at("model");
  EXPECT_EQ(info.at("family"), "cogvideox");
  const auto missing = info.at("missing").get<std::vector<std::string>>();
  EXPECT_THAT(missing, ::testing::IsSupersetOf(lost));
  EXPECT_EQ(missing.size(), lost.size() + 1) << "and the shard that was cut short";
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
