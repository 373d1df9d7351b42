// SPDX-License-Identifier: Apache-2.0
// The command itself, on a tiny model that diffusers saved.
#include <gmock/gmock.h>
#include <signal.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "tests/app/program.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using nlohmann::json;
using ::testing::HasSubstr;
using Names = std::set<std::string>;

const fs::path kModel = fs::path(SAGELAB_FIXTURES) / "cogvideox/2b/model";
#ifdef SAGELAB_FFMPEG
const std::string kEnding = ".mp4";
#else
const std::string kEnding = "";  // a folder of frames
#endif

class BatchCommand : public ::testing::Test {
 protected:
  BatchCommand() { write_file(folder_ / "p.txt", "A fox.\nA cat.\nA dog.\n"); }

  std::vector<std::string> batch(std::vector<std::string> more, const std::string& out = "out") const {
    std::vector<std::string> all{"batch",    "--model",      kModel,    "--prompts", folder_ / "p.txt",
                                 "--output", folder_ / out,  "--width", "32",        "--height",
                                 "32",       "--num-frames", "5",       "--steps",   "2",
                                 "--device", "cpu"};
    for (const auto& argument : more) all.push_back(argument);
    return all;
  }
  Names results(const std::string& out = "out") const {
    Names names;
    for (const auto& entry : fs::directory_iterator(folder_ / out))
      if (!entry.path().filename().string().starts_with('.')) names.insert(entry.path().filename().string());
    return names;
  }
  std::vector<json> manifest(const std::string& name = "manifest.jsonl") const {
    std::vector<json> records;
    std::istringstream lines(read_file(folder_ / "out" / name));
    for (std::string line; std::getline(lines, line);) records.push_back(json::parse(line));
    return records;
  }
  TempFolder folder_;
};

TEST_F(BatchCommand, MakesAFolderOfResultsAndGoesOnWithIt) {
  const auto first = run_sagelab(batch({"--limit", "2"}));
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_EQ(results(),
            (Names{"index.html", "manifest.jsonl", "sample_0000" + kEnding, "sample_0001" + kEnding}));
  const auto second = run_sagelab(batch({"--json"}));
  ASSERT_EQ(second.exit_code, 0) << second.err;
  const auto summary = json::parse(second.out);
  EXPECT_EQ(summary.at("made"), 1);
  EXPECT_EQ(summary.at("there"), 2);
  EXPECT_EQ(summary.at("done"), 3);
  EXPECT_EQ(manifest().size(), 3u);
}

TEST_F(BatchCommand, TheSameRequestGivesGeneratesVideo) {
  ASSERT_EQ(run_sagelab(batch({"--limit", "1", "--seed", "5"})).exit_code, 0);
  const auto file = folder_ / ("out/sample_0000" + kEnding + (kEnding.empty() ? "/frame_0000.png" : ""));
  const auto ours = read_file(file);
  // The name is part of the metadata, so the same one is written by generate.
  const auto generated = run_sagelab(
      {"generate", "--model", kModel, "--prompt", "A fox.", "--output",
       (folder_ / ("out/sample_0000" + kEnding)).string() + (kEnding.empty() ? "/" : ""), "--width", "32",
       "--height", "32", "--num-frames", "5", "--steps", "2", "--seed", "5", "--device", "cpu"});
  ASSERT_EQ(generated.exit_code, 0) << generated.err;
  EXPECT_EQ(read_file(file), ours);
}

TEST_F(BatchCommand, AChangedRequestIsRefused) {
  ASSERT_EQ(run_sagelab(batch({})).exit_code, 0);
  const auto changed = run_sagelab(batch({"--guidance-scale", "3"}));
  EXPECT_EQ(changed.exit_code, 2);
  EXPECT_THAT(changed.err, HasSubstr("request.guidance_scale was 6.0 and is 3.0"));
  const auto sharded = run_sagelab(batch({"--shard", "1/2"}));
  EXPECT_EQ(sharded.exit_code, 1);
  EXPECT_THAT(sharded.err, HasSubstr("go on as it was begun"));
}

TEST_F(BatchCommand, FilesOfSomebodyElseAreLeftAlone) {
  fs::create_directories(folder_ / "out");
  write_file(folder_ / ("out/sample_0001" + kEnding), "mine");
  const auto result = run_sagelab(batch({}));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("is there already, and no manifest beside it tells of it"));
  EXPECT_EQ(results(), (Names{"sample_0001" + kEnding}));
}

TEST_F(BatchCommand, ShardsMeetInTheIndex) {
  for (const auto* shard : {"1/2", "2/2"}) ASSERT_EQ(run_sagelab(batch({"--shard", shard})).exit_code, 0);
  EXPECT_EQ(manifest("manifest-1-of-2.jsonl").size(), 2u);
  EXPECT_EQ(manifest("manifest-2-of-2.jsonl").size(), 1u);
  EXPECT_THAT(read_file(folder_ / "out/index.html"), HasSubstr("3 samples: 3 done."));
}

TEST_F(BatchCommand, AProcessOnTheSameShardIsRefused) {
  const Program first(batch({"--steps", "1000"}));
  while (first.err_so_far().find("denoise 2/") == std::string::npos) {
    ASSERT_EQ(::kill(first.pid(), 0), 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const auto second = run_sagelab(batch({"--steps", "1000"}));
  ::kill(first.pid(), SIGINT);
  const auto ended = first.wait();
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_THAT(second.err, HasSubstr("process " + std::to_string(first.pid()) + " on "));
  EXPECT_THAT(second.err, HasSubstr("works on this already"));
  EXPECT_EQ(ended.exit_code, 130) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("sagelab: cancelled; the same command goes on from here"));
  EXPECT_EQ(results(), (Names{"index.html", "manifest.jsonl"}));
}

TEST_F(BatchCommand, ABadLineFailsAloneAndTheExitCodeSaysSo) {
  write_file(folder_ / "p.txt",
             "A fox.\nA cat. {\"reference_path\": \"cat.png\"}\nA dog. {\"width\": 45, \"num_frames\": 7}\n");
  const auto result = run_sagelab(batch({}));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("line 2: condition reference_path is not supported"));
  EXPECT_EQ(results(),
            (Names{"index.html", "manifest.jsonl", "sample_0000" + kEnding, "sample_0002" + kEnding}));
  const auto dog = manifest().at(2);
  EXPECT_EQ(dog.at("request").at("width"), 48) << "to the nearest that the model makes";
  EXPECT_EQ(dog.at("request").at("num_frames"), 5);
  EXPECT_EQ(dog.at("notices"), json::array({"45x32, 7 frames is moved to 48x32, 5 frames"}));
}

TEST_F(BatchCommand, AFullDiskIsToldOnce) {
  const SmallDisk disk(folder_ / "disk", "size=16k");
  if (!disk.mounted()) GTEST_SKIP() << "no right to mount a small disk";
  const auto result = run_sagelab(batch({}, "disk/out"));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err,
              HasSubstr("No space left on device: the batch stops, and what is recorded is kept"));
  EXPECT_THAT(result.err, HasSubstr("; the same command then goes on"));
  EXPECT_EQ(result.err.find("batch 2/3"), std::string::npos) << result.err;
}

TEST_F(BatchCommand, AShardOfAnotherRequestIsRefused) {
  ASSERT_EQ(run_sagelab(batch({"--shard", "1/2"})).exit_code, 0);
  const auto other = run_sagelab(batch({"--shard", "2/2", "--steps", "3"}));
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_THAT(other.err, HasSubstr("line 1, \"A fox.\": request.steps was 2 and is 3"));
}

// Where encoders are freed after use, the text encoder is loaded for all prompts at once.
TEST_F(BatchCommand, WeightsAreLoadedOnce) {
  const auto loads = [](const std::string& text) {
    size_t count = 0;
    for (auto at = text.find("\nload "); at != std::string::npos; at = text.find("\nload ", at + 1)) ++count;
    return count;
  };
  const auto freed = run_sagelab(batch({"--offload", "encoders", "--attention", "sdpa,reference"}));
  ASSERT_EQ(freed.exit_code, 0) << freed.err;
  EXPECT_EQ(loads(freed.err), 3u) << "text encoder, transformer, VAE\n" << freed.err;
  const auto kept = run_sagelab(batch({"--offload", "none", "--attention", "sdpa,reference"}, "kept"));
  ASSERT_EQ(kept.exit_code, 0) << kept.err;
  EXPECT_EQ(loads(kept.err), 3u);
}

TEST_F(BatchCommand, EncodingAheadChangesNothing) {
  for (const auto* offload : {"encoders", "none"})
    ASSERT_EQ(run_sagelab(batch({"--offload", offload, "--num-frames", "1"}, offload)).exit_code, 0);
  const auto pixels = [&](const std::string& out, int i) {
    const auto png = read_file(folder_ / out / ("sample_000" + std::to_string(i) + ".png"));
    return png.substr(png.find("IDAT"));  // behind the metadata, which names the offload
  };
  for (int i = 0; i < 3; ++i) EXPECT_EQ(pixels("encoders", i), pixels("none", i)) << i;
  EXPECT_NE(pixels("none", 0), pixels("none", 1));
}

TEST_F(BatchCommand, ADryRunListsAndWritesNothing) {
  const auto result =
      run_sagelab(batch({"--dry-run", "--attention", "sdpa,check(sdpa,reference)", "--seeds", "2"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 12);
  EXPECT_THAT(result.out, HasSubstr("out/check-sdpa-reference/sample_0002-1"));
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

TEST_F(BatchCommand, WrongUseIsToldBeforeAnythingIsMade) {
  const auto refused = [&](const std::vector<std::string>& more, const std::string& message) {
    const auto result = run_sagelab(batch(more));
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_THAT(result.err, HasSubstr(message));
  };
  refused({"--attention", "sdpa,nobody"}, "nobody");
  refused({"--seeds", "0"}, "--seeds: 0 is not within 1 to 10000");
  refused({"--shard", "3/2"}, "--shard: 3/2 is no shard");
  refused({"--prompt", "A fox."}, "unknown flag --prompt");
  refused({"--name-by", "colour"}, "--name-by");
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

}  // namespace
}  // namespace sagelab
