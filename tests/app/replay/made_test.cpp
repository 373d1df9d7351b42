// SPDX-License-Identifier: Apache-2.0
// What is told of two runs that differ; and a decoder that runs out of memory.
#include "app/replay/made.h"

#include <gmock/gmock.h>

#include "app/report/report.h"
#include "app/session.h"
#include "attention/error.h"
#include "tests/app/fake_family.h"
#include "tests/app/support.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using nlohmann::json;
using Lines = std::vector<std::string>;

const json kMade{
    {"frames", {{"digest", "d"}}}, {"versions", {{"sagelab", "1"}, {"torch", "2"}, {"cuda", "13.0"}}},
    {"device", "NVIDIA H100"},     {"dtype", "bf16"},
    {"threads", nullptr},          {"attention", {{"served", {{"sage2", 40}}}}},
    {"switches", json::array()},   {"weights", {{"vae", "v"}, {"transformer", "t"}, {"configs", "c"}}},
    {"decoded", nullptr}};

TEST(Differences, EachIsALine) {
  EXPECT_EQ(differences(kMade, kMade), Lines{});
  auto now = kMade;
  now["frames"]["digest"] = "e";
  now["attention"]["served"]["sage2"] = 41;
  EXPECT_EQ(differences(kMade, now), Lines{}) << "the frames are compared apart; counts follow from the rest";
  now = kMade;
  now["device"] = "NVIDIA H200";
  now["versions"]["torch"] = "3";
  now["weights"]["vae"] = "w";
  now["weights"]["configs"] = "x";
  now["switches"] = {"2=sdpa"};
  EXPECT_EQ(
      differences(kMade, now),
      (Lines{
          "device: NVIDIA H100 then, NVIDIA H200 now", "version of torch: 2 then, 3 now",
          "switches of attention: [] then, [\"2=sdpa\"] now",
          "the model's configs or tokenizer are not those of then",
          "the weights of vae are not those of then: their headers (names, shapes, dtypes, sizes) differ"}));
}

TEST(Differences, EmulatedIsSaid) {
  auto now = kMade;
  now["device"] = "a CPU";
  now["threads"] = 2;
  EXPECT_EQ(differences(kMade, now),
            (Lines{"device: NVIDIA H100 then, a CPU now", "threads of the CPU: none then, 2 now",
                   "sage2 ran on the GPU then, and is emulated on the CPU now"}));
  EXPECT_EQ(differences(now, kMade).back(), "sage2 was emulated on the CPU then, and ran on the GPU now");
  auto apart = kMade;
  apart["decoded"] = {{"device", "cuda:0"}, {"dtype", "bf16"}};
  EXPECT_EQ(differences(apart, kMade),
            Lines{"it was denoised on cuda:0 in bf16, and decoded apart on NVIDIA H100 in bf16"});
}

TEST(Differences, ADamagedRecordDiffersAndNoMore) {
  EXPECT_FALSE(differences(json::object(), kMade).empty());
  EXPECT_FALSE(differences({{"attention", 3}, {"versions", "x"}, {"weights", 1}}, kMade).empty());
}

TEST(FramesDigest, IsOfPixelsAndSizes) {
  const auto clip = smooth_clip(2, 16, 8);
  auto other = clip;
  EXPECT_EQ(frames_digest(clip), frames_digest(other));
  std::swap(other.width, other.height);
  EXPECT_NE(frames_digest(clip), frames_digest(other));
  other = clip;
  other.pixels.back() ^= 1;
  EXPECT_NE(frames_digest(clip), frames_digest(other));
}

class OutOfMemory : public ::testing::Test {
 protected:
  std::shared_ptr<FakeHooks> hooks_ = std::make_shared<FakeHooks>();
  Family family_ = fake_family(hooks_);
  Session session_{[this](const fs::path&) -> const Family& { return family_; }};
  Lines notices_;

  Progress run(const std::string& latents, const std::string& tiling = "off") {
    Request r;
    r.model = "fake", r.prompt = "p", r.attention = "sdpa(math)", r.vae_tiling = tiling;
    session_.submit(r, {.save = latents, .decode = {}});
    for (int i = 0; i < 600; ++i) {
      auto progress = session_.wait(std::chrono::milliseconds(100));
      if (!progress) continue;
      if (const auto* notice = std::get_if<Notice>(&progress->what)) notices_.push_back(notice->text);
      if (std::holds_alternative<Finished>(progress->what) || std::holds_alternative<Failed>(progress->what))
        return *progress;
    }
    throw std::runtime_error("the job never ended");
  }
  void fail_times(int times) {
    hooks_->decode = [this, times] {
      if (++decoded_ <= times) at::empty({int64_t(1) << 50});
    };
  }
  int decoded_ = 0;
};

TEST_F(OutOfMemory, DecodingBeginsAgainInTiles) {
  fail_times(1);
  const auto end = run("");
  const auto* finished = std::get_if<Finished>(&end.what);
  ASSERT_TRUE(finished);
  EXPECT_EQ(decoded_, 2);
  ASSERT_EQ(notices_.size(), 1u);
  EXPECT_THAT(notices_[0], ::testing::StartsWith("out of memory in decode on cpu: "));
  EXPECT_THAT(notices_[0], ::testing::EndsWith("; decoding again in tiles"));
  EXPECT_EQ(finished->frames.report.at("notices"), json(notices_));
  // What decides over bits is stored as it was.
  EXPECT_EQ(finished->frames.request.vae_tiling, "on");
  EXPECT_EQ(json::parse(metadata_of(finished->frames).request).at("vae_tiling"), "on");
  EXPECT_EQ(finished->frames.report.at("request").at("vae_tiling"), "on");
}

TEST_F(OutOfMemory, ASecondTimeLeavesTheLatents) {
  const TempFolder folder;
  const auto file = (folder / "z.safetensors").string();
  fail_times(2);
  const auto end = run(file);
  const auto* failed = std::get_if<Failed>(&end.what);
  ASSERT_TRUE(failed);
  EXPECT_EQ(decoded_, 2);
  EXPECT_EQ(failed->latents, file);
  EXPECT_THAT(failed->hint, ::testing::HasSubstr("the finished latents are in " + file));
  EXPECT_TRUE(fs::exists(file));
}

TEST_F(OutOfMemory, TilesAreNotTriedTwice) {
  fail_times(1);
  const auto end = run("", "on");
  EXPECT_TRUE(std::holds_alternative<Failed>(end.what));
  EXPECT_EQ(decoded_, 1);
}

}  // namespace
}  // namespace sagelab
