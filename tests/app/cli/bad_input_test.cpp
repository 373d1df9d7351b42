// SPDX-License-Identifier: Apache-2.0
// The binary and what it refuses: whole messages and exit codes.
#include <ATen/Context.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/resource.h>

#include "attention/error.h"
#include "attention/registry.h"
#include "tests/app/cli/end_to_end.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;

class BadInput : public EndToEnd {
 protected:
  // A copy of the model to break, and what the program says of it.
  fs::path model_ = folder_ / "model";
  void SetUp() override { fs::copy(kFixture / "model", model_, fs::copy_options::recursive); }
  void change(const std::string& file, const json& patch) const {
    auto config = json::parse(read_file(model_ / file));
    config.update(patch);
    write_file(model_ / file, config.dump());
  }
  void expect_refused(const std::string& message) const {
    const auto result = run_sagelab(generate({"--model", model_.string(), "--output", at("f/")}));
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_EQ(result.err, "sagelab: " + message + "\n");
    EXPECT_EQ(folder_.names(), std::set<std::string>{"model"});
  }
  std::vector<std::string> missing() const {
    const auto result = run_sagelab({"info", "--model", model_, "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return json::parse(result.out).at("model").at("missing").get<std::vector<std::string>>();
  }
  std::string path(const std::string& name) const { return (model_ / name).string(); }
};

TEST_F(BadInput, InfoListsEverythingThatIsMissing) {
  fs::remove_all(model_ / "tokenizer");
  std::vector<std::string> lost{path("tokenizer") + ": the folder is missing"};
  for (const auto& entry : fs::directory_iterator(model_ / "transformer")) {
    const auto name = entry.path().filename().string();
    if (!name.ends_with(".safetensors")) continue;
    fs::remove(entry.path());
    lost.push_back(path("transformer") + ": " + name +
                   " is missing, which diffusion_pytorch_model.safetensors.index.json names");
  }
  const auto shard = "vae/diffusion_pytorch_model-00001-of-00040.safetensors";
  fs::resize_file(model_ / shard, 4);
  lost.push_back(path(shard) + ": has 4 bytes: too short for a safetensors file");
  EXPECT_THAT(missing(), ::testing::UnorderedElementsAreArray(lost));
}

TEST_F(BadInput, InfoAndTheLoaderSayTheSame) {
  const auto both = [&](const std::string& what, const std::string& hint) {
    EXPECT_EQ(missing(), std::vector<std::string>{what});
    expect_refused(what + "; " + hint);
    fs::remove_all(model_);
    SetUp();
  };
  EXPECT_EQ(missing(), std::vector<std::string>{});
  for (const auto& entry : fs::directory_iterator(model_ / "vae"))
    if (entry.path().extension() == ".safetensors" ||
        entry.path().filename().string().ends_with("index.json"))
      fs::remove(entry.path());
  write_file(model_ / "vae/diffusion_pytorch_model.bin", "pickle");
  both(path("vae") +
           ": the weights are there only as a pickle (diffusion_pytorch_model.bin), which can run "
           "any code and is not read",
       "save them again with save_pretrained(..., safe_serialization=True)");
  change("vae/diffusion_pytorch_model.safetensors.index.json",
         {{"weight_map", {{"x", "../../../etc/passwd"}}}});
  both(path("vae/diffusion_pytorch_model.safetensors.index.json") +
           ": weight_map sends x to ../../../etc/passwd, which is no .safetensors file of this folder",
       "the index is damaged; download it again");
  change("transformer/config.json", {{"num_layers", 20'000'000}});
  const auto result = run_sagelab(generate({"--model", model_.string(), "--output", at("f/")}));
  EXPECT_EQ(result.err, "sagelab: " + path("transformer/config.json") +
                            ": num_layers = 20000000 should be at most 1000\n");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(missing(), std::vector<std::string>{path("transformer/config.json") +
                                                ": num_layers = 20000000 should be at most 1000"});
  change("transformer/config.json", {{"num_layers", 2}, {"flux_capacitor", 88}});
  EXPECT_EQ(missing(),
            std::vector<std::string>{path("transformer/config.json") + ": unknown key flux_capacitor = 88"});
}

TEST_F(BadInput, InfoFindsWhatTheFamilyRefuses) {
  change("model_index.json", {{"vae", {"diffusers", "AutoencoderKL"}}});
  EXPECT_EQ(missing(), std::vector<std::string>{path("model_index.json") +
                                                ": vae is AutoencoderKL, not AutoencoderKLCogVideoX"});
  change("model_index.json", {{"vae", {"diffusers", "AutoencoderKLCogVideoX"}}});
  change("scheduler/scheduler_config.json", {{"num_train_timesteps", int64_t(1) << 61}});
  EXPECT_EQ(missing(),
            std::vector<std::string>{path("scheduler/scheduler_config.json") +
                                     ": num_train_timesteps = 2305843009213693952 should be at most "
                                     "1000000"});
  write_file(model_ / "scheduler/scheduler_config.json", "{");
  ASSERT_EQ(missing().size(), 1u);
  EXPECT_TRUE(missing()[0].starts_with(path("scheduler/scheduler_config.json") + ": not valid JSON: "));
  fs::copy_file(kFixture / "model/scheduler/scheduler_config.json",
                model_ / "scheduler/scheduler_config.json", fs::copy_options::overwrite_existing);
  fs::remove(model_ / "tokenizer/tokenizer.json");
  write_file(model_ / "tokenizer/spiece.model", "damaged");
  ASSERT_EQ(missing().size(), 1u);
  EXPECT_TRUE(missing()[0].starts_with(path("tokenizer/spiece.model") + ": ")) << missing()[0];
}

TEST_F(BadInput, AVariantThatNoComponentHasIsRefusedAndOneThatSomeHaveIsTold) {
  const auto with = [&] {
    return run_sagelab(
        generate({"--model", model_.string(), "--variant", "fp16", "--output", at("f/"), "--steps", "1"}));
  };
  const auto none = with();
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_EQ(none.err,
            "sagelab: " + model_.string() +
                ": no component has files of the variant fp16; leave --variant out, or name one that is "
                "there: fp16 of diffusion_pytorch_model.fp16.safetensors\n");
  fs::copy_file(model_ / "vae/diffusion_pytorch_model.safetensors.index.json",
                model_ / "vae/diffusion_pytorch_model.safetensors.index.fp16.json");
  const auto some = with();
  EXPECT_EQ(some.exit_code, 0);
  for (const std::string name : {"text_encoder", "transformer"})
    EXPECT_NE(some.err.find("sagelab: " + path(name) +
                            " has no files of the variant fp16: its plain ones are read\n"),
              std::string::npos)
        << some.err;
  EXPECT_EQ(some.err.find(path("vae")), std::string::npos);
}

class Flags : public EndToEnd {
 protected:
  void fails(std::vector<std::string> more, int exit_code, const std::string& message) const {
    const auto result = run_sagelab(generate(std::move(more)));
    EXPECT_EQ(result.exit_code, exit_code);
    EXPECT_EQ(result.err, "sagelab: " + message + "\n");
    EXPECT_EQ(folder_.names(), std::set<std::string>{});
  }
};

TEST_F(Flags, WhatCannotBeWrittenIsKnownBeforeTheRun) {
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
  fails({"--output", at("f/"), "--latents", at("new/")}, 2,
        "--latents " + at("new/") + " is a folder, not a file; name it x.safetensors");
  fails({"--output", at("f/"), "--report", at("f/r.json")}, 2,
        "--report lies in the output folder " + at("f") +
            ", which is replaced as a whole: " + at("f/r.json") + "; choose a place outside of it");
}

TEST_F(Flags, WrongValuesAreSaid) {
  try {
    attention::make_backend("nonsense");
    ADD_FAILURE();
  } catch (const Error& e) {  // the list of backends grows
    EXPECT_TRUE(std::string(e.what()).starts_with("attention 'nonsense': there is no backend 'nonsense'"));
    fails({"--attention", "nonsense", "--output", at("f/")}, 2, e.what() + ("; " + e.hint()));
  }
  fails({"--max-sequence-length", "0"}, 2,
        "--max-sequence-length: Value 0 not in range 1 to 4096; see sagelab generate --help");
  fails({"--device", "tpu"}, 2, "--device: tpu not in {auto,cpu,cuda,cuda:N}; see sagelab generate --help");
  fails({"--seed", "-1"}, 2,
        "--seed: -1 is no whole number from 0 to 18446744073709551615; see sagelab generate --help");
  fails({"--variant", "\xff"}, 2,
        "the variant is not UTF-8: byte 0xff at position 0; pass the text in UTF-8");
  fails({"--output", at("f/"), "--report", at("\xff")}, 2,
        "the name of the report is not UTF-8: byte 0xff at position " + std::to_string(at("").size()) +
            "; pass the text in UTF-8");
  fails({"--output", at("f/"), "--width", "81"}, 1, "width is 81, not a multiple of 16; nearest: 80 or 96");
  fails({"--output", at("f/"), "--num-frames", "8"}, 1,
        "num_frames is 8, not of the form 4k + 1; nearest: 5 or 9");
  fails({"--output", at("f/"), "--width", "2000000000"}, 2, "width is 2000000000, not within 1 to 16384");
  fails({"--output", at("f/"), "--fps", "0.00001"}, 2, "fps is 1e-05, not within 0.1 to 1000");
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

TEST_F(EndToEnd, StdoutThatTakesNothingIsAFailure) {
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {"info"}, {"--version"}, {"generate", "--help"}, generate({"--output", at("f/"), "--dry-run"})}) {
    const auto result = Program(arguments, "/dev/full").wait();
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_EQ(
        result.err,
        "sagelab: cannot write to stdout: No space left on device; send it to a file or a pipe that takes "
        "it\n");
  }
}

// The limit that `ulimit -f` sets: its signal would end the process.
TEST_F(EndToEnd, AFileSizeLimitIsAnErrorLikeAnyOther) {
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {30'000, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto result = run_sagelab(generate({"--output", at("f/")}));
  ::setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(result.signal, 0);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.err, "sagelab: cannot write " + at("f.latents.safetensors") +
                            ": File too large; free some space in " + folder_.path().string() +
                            ", or choose another place\n");
  EXPECT_EQ(folder_.names(), std::set<std::string>{});
}

}  // namespace
}  // namespace sagelab
