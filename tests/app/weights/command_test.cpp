// SPDX-License-Identifier: Apache-2.0
// --weights and --offload layers through the binary: generate, dry run, replay, compare and batch carry them.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/app/cli/read_frames.h"
#include "tests/app/program.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Texts = std::vector<std::string>;

std::string place(const std::string& name) {
  return (fs::path(SAGELAB_FIXTURES) / "single_files" / name).string();
}

class WeightsCommand : public ::testing::Test {
 protected:
  TempFolder folder_;
  std::string at(const std::string& name) const { return (folder_ / name).string(); }
  static Texts weights(const Texts& files) {
    Texts flags;
    for (const auto& file : files) {
      const size_t equals = file.find('=') + 1;
      flags.insert(flags.end(), {"--weights", file.substr(0, equals) + place(file.substr(equals))});
    }
    return flags;
  }
  static ProgramResult run(const std::string& command, const Texts& more,
                           const std::string& model = "model") {
    Texts all{command, "--model",  place(model), "--device", "cpu", "--width",
              "48",    "--height", "32",         "--steps",  "2",   "--max-sequence-length",
              "64"};
    if (command != "batch") all.insert(all.end(), {"--prompt", "a fox"});
    all.insert(all.end(), more.begin(), more.end());
    return run_sagelab(all);
  }
  static Texts joined(Texts a, const Texts& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  }
  const Texts original_ = weights({"transformer=transformer.safetensors", "vae=bundle.safetensors"});
};

TEST_F(WeightsCommand, GenerateGivesTheFoldersPictureAndReplayMakesItAgain) {
  const auto own = run("generate", {"--output", at("own.png")});
  ASSERT_EQ(own.exit_code, 0) << own.err;
  const auto single = run("generate", joined({"--output", at("single.png")}, original_));
  ASSERT_EQ(single.exit_code, 0) << single.err;
  EXPECT_TRUE(at::equal(read_png(folder_ / "own.png"), read_png(folder_ / "single.png")));
  const auto again = run_sagelab({"replay", at("single.png"), "--json"});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(json::parse(again.out).at("identical"), true);
}

TEST_F(WeightsCommand, ReplayNoticesOtherWeightsAndFindsThoseThatMoved) {
  fs::copy_file(place("transformer.safetensors"), folder_ / "t.safetensors");
  ASSERT_EQ(
      run("generate", {"--output", at("x.png"), "--weights", "transformer=" + at("t.safetensors")}).exit_code,
      0);
  fs::rename(folder_ / "t.safetensors", folder_ / "moved.safetensors");
  const auto gone = run_sagelab({"replay", at("x.png")});
  EXPECT_EQ(gone.exit_code, 1);
  EXPECT_THAT(gone.err, HasSubstr("t.safetensors"));
  const auto moved =
      run_sagelab({"replay", at("x.png"), "--weights", "transformer=" + at("moved.safetensors")});
  EXPECT_EQ(moved.exit_code, 0) << moved.out << moved.err;
  fs::copy_file(place("other.safetensors"), folder_ / "t.safetensors");
  const auto other = run_sagelab({"replay", at("x.png"), "--json"});
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_THAT(json::parse(other.out).at("runs").at(0).at("differences").dump(),
              AllOf(HasSubstr("weights"), HasSubstr("transformer")));
}

TEST_F(WeightsCommand, TheDryRunCountsTheFile) {
  const auto bytes_of = [&](const Texts& flags) {
    const auto result = run("generate", joined({"--dry-run", "--json"}, flags));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const auto plan = json::parse(result.out);
    std::map<std::string, json> components;
    for (const auto& c : plan.at("components")) components[c.at("name")] = c;
    return components;
  };
  const auto own = bytes_of({}), narrow = bytes_of(weights({"transformer=scaled.safetensors"}));
  EXPECT_LT(narrow.at("transformer").at("bytes"), own.at("transformer").at("bytes"));
  EXPECT_LT(narrow.at("transformer").at("file_bytes"), own.at("transformer").at("file_bytes"));
  EXPECT_EQ(narrow.at("vae"), own.at("vae"));
}

TEST_F(WeightsCommand, InfoLooksIntoTheFile) {
  const auto info_of = [&](const Texts& files) {
    const auto result = run_sagelab(joined({"info", "--model", place("model"), "--json"}, weights(files)));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return json::parse(result.out).at("model");
  };
  const auto whole = info_of({"transformer=scaled.safetensors"});
  EXPECT_EQ(whole.at("missing"), json::array());
  for (const auto& c : whole.at("components")) {
    if (c.at("name") != "transformer") continue;
    EXPECT_EQ(c.at("file"), place("scaled.safetensors"));
    EXPECT_THAT(c.at("dtypes").dump(), HasSubstr("F8_E4M3"));
  }
  EXPECT_THAT(info_of({"vae=scaled.safetensors"}).at("missing").dump(), HasSubstr("is missing"));
  EXPECT_THAT(info_of({"vae=nowhere.safetensors"}).at("missing").dump(), HasSubstr("nowhere.safetensors"));
}

TEST_F(WeightsCommand, CompareAndBatchCarryThem) {
  const auto compared =
      run("compare", joined({"--a", "sdpa", "--b", "reference", "--output", at("out/")}, original_));
  ASSERT_EQ(compared.exit_code, 0) << compared.err;
  const auto report = json::parse(read_file(folder_ / "out/report.json"));
  for (const auto& one : report.at("runs"))
    EXPECT_EQ(one.at("report").at("request").at("weights"), json({original_[1], original_[3]}));
  write_file(folder_ / "p.jsonl",
             "{\"prompt\": \"a fox\"}\n{\"prompt\": \"a fox\", \"weights\": [\"vae=x\"]}\n");
  const auto batch =
      run("batch", joined({"--prompts", at("p.jsonl"), "--output", at("batch"), "--json"}, original_));
  EXPECT_EQ(batch.exit_code, 1) << "the second line names others";
  EXPECT_THAT(batch.err + batch.out, HasSubstr("the request's weights is"));
  ASSERT_EQ(run("generate", {"--output", at("own.png")}).exit_code, 0);
  EXPECT_TRUE(at::equal(read_png(folder_ / "batch/sample_0000.png"), read_png(folder_ / "own.png")));
}

TEST_F(WeightsCommand, WrongFlagsAreWrongUsageAndWrongFilesFail) {
  const std::pair<Texts, const char*> kUsage[] = {
      {{"--weights", "x.safetensors"}, "do not say which file stands for which component"},
      {{"--weights", "vae=a", "--weights", "vae=b"}, "vae is given two files"}};
  for (const auto& [flags, message] : kUsage) {
    const auto result = run("generate", joined({"--output", at("x.png")}, flags));
    EXPECT_EQ(result.exit_code, 2) << message;
    EXPECT_THAT(result.err, HasSubstr(message));
  }
  const std::pair<Texts, const char*> kFiles[] = {
      {{"--weights", "unet=" + place("vae.safetensors")}, "this model has no component unet"},
      {{"--weights", "vae=" + at("none.safetensors")}, "none.safetensors"},
      {{"--weights", "vae=" + place("request.json")}, "request.json"},
      {{"--weights", "vae=" + place("transformer.safetensors")}, "is missing"}};
  for (const auto& [flags, message] : kFiles) {
    const auto result = run("generate", joined({"--output", at("x.png")}, flags));
    EXPECT_EQ(result.exit_code, 1) << message;
    EXPECT_THAT(result.err, HasSubstr(message));
  }
  EXPECT_EQ(folder_.names(), std::set<std::string>{});
}

// A request from a GPU runs on a CPU, to the bits of one that was made there.
TEST_F(WeightsCommand, LayersOnACpuAreEncoders) {
  for (const char* offload : {"layers", "none"})
    ASSERT_EQ(
        run("generate", {"--output", at(std::string(offload) + ".png"), "--offload", offload}).exit_code, 0);
  EXPECT_TRUE(at::equal(read_png(folder_ / "layers.png"), read_png(folder_ / "none.png")));
  const auto planned = run("generate", {"--dry-run", "--offload", "layers"});
  EXPECT_THAT(planned.out, HasSubstr("on a CPU no more: all weights are in host memory"));
  EXPECT_EQ(run_sagelab({"replay", at("layers.png")}).exit_code, 0);
}

}  // namespace
}  // namespace sagelab
