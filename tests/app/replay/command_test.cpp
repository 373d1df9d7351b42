// SPDX-License-Identifier: Apache-2.0
// The real binary makes what it made again, or says what keeps it from doing so.
#include "tests/app/replay/command.h"
#include "pipelines/core/safetensors.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class Replay : public ShortRuns {
 protected:
  void identical(const std::vector<std::string>& arguments) const {
    const auto result = replay(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err << result.out;
    EXPECT_THAT(result.out, StartsWith("identical: " + arguments.front() + ": "));
  }
  // What is printed below "differs: ...".
  std::string differs(const std::vector<std::string>& arguments) const {
    const auto result = replay(arguments);
    EXPECT_EQ(result.exit_code, 1) << result.err;
    EXPECT_THAT(result.out, StartsWith("differs: " + arguments.front() + ": the frames have sha256 "));
    return result.out.substr(result.out.find('\n') + 1);
  }
  void change(const std::string& folder, const std::function<void(json&)>& what) const {
    auto all = stored(folder);
    what(all);
    write_file(folder_ / folder / "request.json", all.dump());
  }
};

TEST_F(Replay, EveryOutputIsMadeAgain) {
  generate({"--output", at("f/"), "--report", at("r.json")});
  generate({"--output", at("a.png"), "--num-frames", "1"});
  const auto made = stored("f").at("made");
  for (const char* key : {"versions", "device", "dtype", "threads", "attention", "switches", "weights"})
    EXPECT_TRUE(made.contains(key)) << key;
  EXPECT_EQ(made.at("frames").at("digest").get<std::string>().size(), 64u);
  EXPECT_EQ(made.at("weights").size(), 4u) << made.at("weights");
  EXPECT_GT(made.at("attention").at("served").size(), 0u);
  EXPECT_EQ(made, json::parse(read_file(folder_ / "r.json")).at("made"));
  identical({at("f")});
  identical({at("f/request.json")});
  identical({at("r.json")});
  identical({at("a.png")});
#ifdef SAGELAB_FFMPEG
  generate({"--output", at("a.mp4")});
  identical({at("a.mp4"), "--output", at("b.mp4")});
  EXPECT_EQ(read_file(folder_ / "a.mp4").size() > 0, true);
  identical({at("b.mp4")});
#endif
  identical({at("f"), "--output", at("g/")});
  for (int i = 0; i < 5; ++i) {
    const auto frame = "/frame_000" + std::to_string(i) + ".png";
    EXPECT_EQ(read_file(folder_ / ("f" + frame)), read_file(folder_ / ("g" + frame)));
  }
  EXPECT_EQ(stored("f").at("made"), stored("g").at("made"));
  // As --request, it is the request alone.
  const auto again = run_sagelab({"generate", "--request", at("f/request.json"), "--output", at("h/")});
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(stored("h").at("made"), stored("f").at("made"));
}

TEST_F(Replay, SwitchesAreMadeAgain) {
  generate({"--output", at("plain/"), "--attention", "sdpa(math)"});
  generate({"--output", at("f/"), "--attention", "sdpa(math)", "--attention-at", "1=sage2", "--attention-at",
            "3=reference"});
  EXPECT_EQ(stored("f").at("made").at("switches"), json::array({"1=sage2", "3=reference"}));
  EXPECT_NE(stored("f").at("made").at("frames"), stored("plain").at("made").at("frames"));
  identical({at("f")});
  generate({"--output", at("calls/"), "--attention", "sdpa(math)", "--attention-switch", "call",
            "--attention-at", "2.1=sage2"});
  EXPECT_EQ(stored("calls").at("made").at("switches"), json::array({"2.1=sage2"}));
  identical({at("calls")});
}

TEST_F(Replay, FilesOfCompareAndBatchToo) {
  const auto compared =
      run_sagelab(command("compare", {"--output", at("c/"), "--a", "sdpa(math)", "--b", "sage2"}));
  ASSERT_EQ(compared.exit_code, 0) << compared.err;
#ifdef SAGELAB_FFMPEG
  const std::string ending = ".mp4";
#else
  const std::string ending;
#endif
  identical({at("c/b" + ending)});
  const auto both = replay({at("c/report.json")});
  EXPECT_EQ(both.exit_code, 0) << both.err;
  EXPECT_THAT(both.out, HasSubstr("report.json (a): "));
  EXPECT_THAT(both.out, HasSubstr("report.json (b): "));
  const auto drawn = replay({at("c/side_by_side" + ending)});
  EXPECT_EQ(drawn.exit_code, 1);
  EXPECT_THAT(drawn.err, HasSubstr("is drawn from several runs; replay those"));

  write_file(folder_ / "p.txt", "A fox.\nA cat.\n");
  const auto batched = run_sagelab({"batch", "--prompts", at("p.txt"), "--model", kModel, "--output", at("b"),
                                    "--width", "32", "--height", "32", "--num-frames", "5", "--steps", "2",
                                    "--device", "cpu", "--offload", "encoders"});
  ASSERT_EQ(batched.exit_code, 0) << batched.err;
  identical({at("b/sample_0001" + ending)});
}

TEST_F(Replay, WhatDiffersIsSaid) {
  generate({"--output", at("f/"), "--steps", "1", "--attention", "sage2"});
  change("f", [](json& all) { all["made"]["frames"]["digest"] = std::string(64, '0'); });
  EXPECT_EQ(differs({at("f")}),
            "  nothing that is recorded differs: the weights' data may be others, or the file was changed\n");
  change("f", [](json& all) {
    all["made"]["versions"]["sagelab"] = "0.0.1";
    all["made"]["device"] = "NVIDIA H200";
    all["made"]["threads"] = nullptr;
  });
  const auto text = differs({at("f")});
  EXPECT_THAT(text, StartsWith("  device: NVIDIA H200 then, "));
  EXPECT_THAT(text, HasSubstr("\n  version of sagelab: 0.0.1 then, "));
  EXPECT_THAT(text, EndsWith("\n  sage2 ran on the GPU then, and is emulated on the CPU now\n"));
  const auto as_json = replay({at("f"), "--json"});
  EXPECT_EQ(as_json.exit_code, 1);
  EXPECT_EQ(json::parse(as_json.out).at("identical"), false);
  EXPECT_EQ(json::parse(as_json.out).at("runs").at(0).at("differences").size(), 4u) << as_json.out;
}

TEST_F(Replay, ThreadsAreThoseOfThen) {
  generate({"--output", at("f/"), "--steps", "1"});
  EXPECT_EQ(stored("f").at("made").at("threads"), 1);
  change("f", [](json& all) { all["made"]["threads"] = 2; });
  const auto result = replay({at("f"), "--json"});
  EXPECT_EQ(json::parse(result.out).at("runs").at(0).at("differences"), json::array()) << result.out;
}

TEST_F(Replay, ChangedModelsAreSaid) {
  fs::copy(kModel, folder_ / "m", fs::copy_options::recursive);
  generate({"--output", at("f/"), "--steps", "1"}, folder_ / "m");
  const auto file = folder_ / "m/vae/diffusion_pytorch_model.safetensors";
  ASSERT_TRUE(fs::exists(file));
  const auto weights = read_file(file);
  std::map<std::string, at::Tensor> tensors;
  {
    const SafetensorsFile whole(file);
    for (const auto& [name, stored] : whole.tensors()) tensors[name] = whole.tensor(name);
  }
  for (auto& [name, tensor] : tensors) tensor = tensor * 1.5;
  write_safetensors(file, tensors, {{"format", "pt"}});
  EXPECT_THAT(differs({at("f")}), HasSubstr("nothing that is recorded differs")) << "headers tell of no data";
  tensors.begin()->second = tensors.begin()->second.to(at::kDouble);
  write_safetensors(file, tensors, {{"format", "pt"}});
  EXPECT_THAT(differs({at("f")}), HasSubstr("the weights of vae are not those of then: their headers"));
  write_file(file, weights);
  identical({at("f")});

  fs::rename(folder_ / "m", folder_ / "moved");
  const auto missing = replay({at("f")});
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_EQ(missing.err,
            "sagelab: " + at("m") + ": no such model folder; name with --model where it is now\n");
  identical({at("f"), "--model", at("moved")});
}

TEST_F(Replay, WrongUseIsSaid) {
  generate({"--output", at("f/"), "--steps", "1"});
  const auto fails = [&](std::vector<std::string> arguments, int exit_code, const std::string& message) {
    const auto result = replay(std::move(arguments));
    EXPECT_EQ(result.exit_code, exit_code);
    EXPECT_THAT(result.err, HasSubstr(message));
  };
  fails({}, 2, "file is required");
  fails({at("none.mp4")}, 1, at("none.mp4") + ": cannot be read: No such file or directory");
  fails({at("f"), "--device", "tpu"}, 2, "--device");
  fails({at("f"), "--output", at("x.png")}, 1, "a PNG holds one frame, this request makes 5");
  fails({at("f/frame_0000.png")}, 1, "this PNG does not say how it was made; of a folder of frames");
  change("f", [](json& all) { all["steps"] = 0; });
  fails({at("f")}, 1, at("f") + ": steps is 0, not within 1 to 10000");
}

}  // namespace
}  // namespace sagelab
