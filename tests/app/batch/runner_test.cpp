// SPDX-License-Identifier: Apache-2.0
#include "app/batch/runner.h"

#include <gmock/gmock.h>

#include <fstream>
#include <new>

#include "app/failure.h"
#include "tests/app/fake_family.h"
#include "tests/app/support.h"

namespace sagelab::batch {
namespace {

using namespace sagelab::testing;
using nlohmann::json;

class BatchRunner : public ::testing::Test {
 protected:
  BatchRunner() {
    settings_.base.model = "fake";
    settings_.base.attention = "sdpa(math)";
    settings_.base.num_frames = 1;  // PNG, which every build writes
    settings_.folder = folder_ / "out";
    fs::create_directories(settings_.folder);
  }

  std::vector<Sample> plan(const std::string& text) const {
    write_file(folder_ / "p.txt", text);
    auto samples = plan_samples(read_prompts(folder_ / "p.txt").prompts, settings_, family_);
    for (const auto& sample : samples)
      for (const auto& output : sample.outputs)
        fs::create_directories(fs::path(output.request.output).parent_path());
    return samples;
  }

  Tally run(const std::vector<Sample>& samples, const Runner::Hooks& hooks = {}) {
    Manifest manifest(settings_.folder / "manifest.jsonl");
    std::FILE* out = std::fopen((folder_ / "err").c_str(), "w");
    Tally tally;
    {
      BatchProgress progress(out, false, 1);
      tally = Runner(session_, manifest, progress, settings_.folder).run(samples, hooks);
    }
    std::fclose(out);
    records_ = manifest.records();
    return tally;
  }

  std::set<std::string> files() const {
    std::set<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(settings_.folder))
      if (entry.is_regular_file() && entry.path().filename() != "manifest.jsonl")
        names.insert(entry.path().lexically_relative(settings_.folder).string());
    return names;
  }

  TempFolder folder_;
  Settings settings_;
  std::shared_ptr<FakeHooks> hooks_ = std::make_shared<FakeHooks>();
  Family family_ = fake_family(hooks_);
  Session session_{[this](const fs::path&) -> const Family& { return family_; }};
  Records records_;
};

using Names = std::set<std::string>;

TEST_F(BatchRunner, MakesEachSampleOnceAndRecordsIt) {
  const auto samples = plan("A fox.\nA cat.\n");
  const auto tally = run(samples);
  EXPECT_EQ(tally.made, 2);
  EXPECT_EQ(files(), (Names{"sample_0000.png", "sample_0001.png"})) << "no latents, no drafts";
  const auto& output = records_.at({1, 0}).at("outputs").at(0);
  EXPECT_EQ(records_.at({1, 0}).at("status"), "done");
  EXPECT_EQ(records_.at({1, 0}).at("prompt"), "A cat.");
  EXPECT_EQ(output.at("bytes"), fs::file_size(settings_.folder / "sample_0001.png"));
  EXPECT_EQ(output.at("served"), json::array({"sdpa(math)"}));
  EXPECT_GT(output.at("seconds").at("median_step").get<double>(), 0);
  EXPECT_FALSE(output.contains("quality"));
  EXPECT_EQ(hooks_->opened, 1) << "weights are loaded once";

  int steps = 0;
  hooks_->step = [&](int) { ++steps; };
  const auto manifest = read_file(settings_.folder / "manifest.jsonl");
  EXPECT_EQ(run(samples).there, 2);
  EXPECT_EQ(steps, 0);
  EXPECT_EQ(read_file(settings_.folder / "manifest.jsonl"), manifest);
}

TEST_F(BatchRunner, AFileThatIsGoneOrCutIsMadeAgain) {
  const auto samples = plan("A fox.\nA cat.\nA dog.\n");
  run(samples);
  fs::remove(settings_.folder / "sample_0000.png");
  fs::resize_file(settings_.folder / "sample_0001.png", 10);
  const auto tally = run(samples);
  EXPECT_EQ(tally.made, 2);
  EXPECT_EQ(tally.there, 1);
  EXPECT_EQ(run(samples).there, 3);
}

TEST_F(BatchRunner, SpecsAreComparedToTheFirst) {
  settings_.specs = {"sdpa(math)", "reference"};
  settings_.base.width = settings_.base.height = 16;
  run(plan("A fox.\n"));
  EXPECT_EQ(files(), (Names{"reference/sample_0000.png", "sdpa-math/sample_0000.png"}));
  const auto& outputs = records_.at({0, 0}).at("outputs");
  ASSERT_EQ(outputs.size(), 2u);
  EXPECT_FALSE(outputs[0].contains("quality"));
  const auto& quality = outputs[1].at("quality");
  EXPECT_EQ(quality.at("frames"), 1);
  EXPECT_EQ(quality.at("identical_frames"), 1);
  EXPECT_TRUE(quality.at("psnr").at("mean").is_null()) << "of equal frames it is infinite";
  EXPECT_EQ(quality.at("ssim").at("mean"), 1);
  EXPECT_EQ(outputs[1].at("served"), json::array({"reference"}));
}

TEST_F(BatchRunner, ASampleThatFailsIsRecordedAndTheRestGoesOn) {
  int steps = 0;
  hooks_->step = [&](int) {
    if (++steps == 4) throw std::bad_alloc();
  };
  const auto samples =
      plan("A fox.\nA cat.\nA dog. {\"mask_strategy\": \"0\"}\nA cow. {\"width\": 1}\nA hen.\n");
  const auto tally = run(samples);
  EXPECT_EQ(tally.made, 3);
  EXPECT_EQ(tally.failed, 2);
  const auto& cat = records_.at({1, 0});
  EXPECT_EQ(cat.at("status"), "failed");
  EXPECT_THAT(cat.at("outputs")[0].at("error").get<std::string>(), ::testing::HasSubstr("out of memory"));
  EXPECT_NE(cat.at("outputs")[0].at("hint"), "");
  EXPECT_THAT(records_.at({2, 0}).at("error").get<std::string>(),
              ::testing::HasSubstr("mask_strategy is not supported"));
  EXPECT_THAT(read_file(folder_ / "err"), ::testing::HasSubstr("sagelab: line 3: condition mask_strategy"));
  EXPECT_EQ(files(), (Names{"sample_0000.png", "sample_0003.png", "sample_0004.png"}));

  const auto again = run(samples);  // what failed by chance is made now
  EXPECT_EQ(again.made, 1);
  EXPECT_EQ(again.failed, 1);
  EXPECT_EQ(again.there, 3);
  EXPECT_EQ(records_.at({1, 0}).at("status"), "done");
  const auto text = read_file(settings_.folder / "manifest.jsonl");
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 6) << "the same failure is not told twice";
}

TEST_F(BatchRunner, FinishedLatentsStayWhereDecodingFails) {
  hooks_->decode = [] { throw std::bad_alloc(); };
  EXPECT_EQ(run(plan("A fox.\n")).failed, 1);
  EXPECT_EQ(files(), (Names{"sample_0000.latents.safetensors"}));
  EXPECT_EQ(records_.at({0, 0}).at("outputs")[0].at("latents"),
            (settings_.folder / "sample_0000.latents.safetensors").string());
  hooks_->decode = [] {};
  EXPECT_EQ(run(plan("A fox.\n")).made, 1);
  EXPECT_EQ(files(), (Names{"sample_0000.png"}));
}

TEST_F(BatchRunner, AFullDiskStopsTheBatchAndKeepsWhatIsThere) {
  const SmallDisk disk(folder_ / "disk", "size=256k");
  if (!disk.mounted()) GTEST_SKIP() << "no right to mount a small disk";
  settings_.folder = folder_ / "disk";
  const auto samples = plan("A fox.\nA cat.\nA dog.\n");
  const auto filler = settings_.folder / "filler";
  int steps = 0;
  hooks_->step = [&](int) { ++steps; };
  hooks_->decode = [&] {  // its latents are on disk by then
    if (steps != 6) return;
    std::ofstream file(filler, std::ios::binary);
    for (int i = 0; i < 256 && file; ++i) file << std::string(4096, 'x') << std::flush;
  };
  try {
    run(samples);
    ADD_FAILURE() << "went on";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), ::testing::HasSubstr("No space left on device"));
  }
  EXPECT_EQ(steps, 6) << "the third is not begun";
  const auto records = Manifest(settings_.folder / "manifest.jsonl").records();
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records.at({0, 0}).at("status"), "done");
  const auto& cat = records.at({1, 0}).at("outputs").at(0);
  EXPECT_THAT(cat.at("error").get<std::string>(), ::testing::HasSubstr("No space left on device"));
  EXPECT_TRUE(fs::exists(cat.at("latents").get<std::string>())) << "a finished sampling is not lost";
  EXPECT_THAT(read_file(folder_ / "err"), ::testing::HasSubstr("; the finished latents are in "));
  fs::remove(filler);
  const auto tally = run(samples);
  EXPECT_EQ(tally.there, 1);
  EXPECT_EQ(tally.made, 2);
  EXPECT_EQ(files(), (Names{"sample_0000.png", "sample_0001.png", "sample_0002.png"}));
}

TEST_F(BatchRunner, StoppingCancelsTheSampleAtHandOnly) {
  std::atomic<bool> stop = false;
  int steps = 0;
  hooks_->step = [&](int) {
    if (++steps != 5) return;
    stop = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  };
  const auto samples = plan("A fox.\nA cat.\nA dog.\n");
  const auto tally = run(samples, {[&] { return stop.load(); }, [] {}});
  EXPECT_TRUE(tally.cancelled);
  EXPECT_EQ(tally.made, 1);
  EXPECT_EQ(files(), (Names{"sample_0000.png"}));
  EXPECT_EQ(records_.size(), 1u) << "what was cancelled is no failure";
  EXPECT_EQ(run(samples).made, 2);
}

TEST_F(BatchRunner, DraftsOfAKilledProcessAreRemovedAndNothingElse) {
  settings_.specs = {"sdpa(math)", "reference"};
  const auto samples = plan("A fox.\n");
  const auto& folder = settings_.folder;
  for (const auto* name :
       {"sdpa-math/.sample_0000.png.123-0.part", "sdpa-math/.sample_0000.latents.safetensors.99-1.part",
        "sdpa-math/.sample_0001.png.123-0.part", "sdpa-math/sample_0000.part", ".part"})
    write_file(folder / name, "half");
  fs::create_directories(folder / "reference/.sample_0000.png.7-0.part/inside");
  remove_drafts(samples);
  EXPECT_EQ(files(), (Names{"sdpa-math/.sample_0001.png.123-0.part", "sdpa-math/sample_0000.part", ".part"}));
  EXPECT_FALSE(fs::exists(folder / "reference/.sample_0000.png.7-0.part"));
}

}  // namespace
}  // namespace sagelab::batch
