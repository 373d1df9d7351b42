// SPDX-License-Identifier: Apache-2.0
// The binary on a genuine folder of a family that makes pictures: against diffusers' own, and several at
// once.
#include <gmock/gmock.h>

#include <algorithm>

#include "tests/app/cli/read_frames.h"
#include "tests/app/program.h"
#include "tests/support/parity.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using nlohmann::json;
using ::testing::HasSubstr;

struct Fixture {
  const char* family;
  const char* folder;
  const char* mode;  // of the dumps: that of the whole request
  fs::path path() const { return fs::path(SAGELAB_FIXTURES) / folder; }
};

void PrintTo(const Fixture& fixture, std::ostream* out) {
  *out << fixture.folder;
}

class Pictures : public ::testing::TestWithParam<Fixture> {
 protected:
  TempFolder folder_;
  json request_ = json::parse(read_file(GetParam().path() / "request.json"));
  std::string model_ = (GetParam().path() / "model").string();

  std::string at(const std::string& name) const { return (folder_ / name).string(); }

  // A flag for every argument of diffusers' call.
  std::vector<std::string> flags(const std::set<std::string>& without = {}) const {
    std::vector<std::string> all{"--model", model_, "--device", "cpu"};
    for (const auto& [key, value] : request_.items()) {
      std::string flag = key == "num_inference_steps" ? "steps" : key;
      std::replace(flag.begin(), flag.end(), '_', '-');
      std::string text = value.is_string() ? value.get<std::string>() : value.dump();
      if (value.is_array()) text = text.substr(1, text.size() - 2);
      if (text.empty() || without.contains(key)) continue;
      all.insert(all.end(), {"--" + flag, text});
    }
    return all;
  }
  std::vector<std::string> generate(std::vector<std::string> more) const {
    std::vector<std::string> all = flags();
    all.insert(all.begin(), "generate");
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  std::string picture_of_seed(int64_t more) const {
    return "x-" + std::to_string(request_.at("seed").get<int64_t>() + more) + ".png";
  }
};

TEST_P(Pictures, APngIsDiffusersPicture) {
  const auto result = run_sagelab(generate({"--output", at("x.png")}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto theirs =
      Dump(GetParam().path() / "dump.safetensors")[std::string(GetParam().mode) + ".pixels"].to(at::kInt);
  const auto ours = read_png(folder_ / "x.png").unsqueeze(0).to(at::kInt);
  ASSERT_EQ(ours.sizes(), theirs.sizes());
  const auto off = (ours - theirs).abs();
  EXPECT_LE(off.max().item<int>(), 1);
  EXPECT_GE(off.eq(0).to(at::kDouble).mean().item<double>(), 0.999);
  EXPECT_EQ(folder_.names(), std::set<std::string>{"x.png"});
}

TEST_P(Pictures, SeveralHaveSeedsCountedUp) {
  const auto result = run_sagelab(generate({"--output", at("x.png"), "--num-images", "2"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string first = picture_of_seed(0), second = picture_of_seed(1);
  EXPECT_EQ(folder_.names(), (std::set<std::string>{first, second}));
  const std::string seed = std::to_string(request_.at("seed").get<int64_t>() + 1);
  const auto alone = run_sagelab(generate({"--output", at("y.png"), "--seed", seed}));
  ASSERT_EQ(alone.exit_code, 0) << alone.err;
  EXPECT_TRUE(at::equal(read_png(folder_ / second), read_png(folder_ / "y.png")));
  EXPECT_FALSE(at::equal(read_png(folder_ / first), read_png(folder_ / "y.png")));
}

TEST_P(Pictures, WhatIsOfOneRunIsRefusedForSeveral) {
  const std::vector<std::pair<std::vector<std::string>, const char*>> kCases = {
      {{"--report", at("r.json")}, "--report is of one run"},
      {{"--latents", at("z.safetensors")}, "--latents is of one run"},
      {{"--capture-qkv", at("qkv") + "/"}, "--capture-qkv is of one run"},
      {{"--seed", "18446744073709551615"}, "2 seeds from 18446744073709551615 on are more than there are"}};
  for (const auto& [flags, message] : kCases) {
    auto arguments = generate({"--output", at("x.png"), "--num-images", "2"});
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const auto result = run_sagelab(arguments);
    EXPECT_EQ(result.exit_code, 2) << flags.front();
    EXPECT_THAT(result.err, HasSubstr(message));
  }
  EXPECT_EQ(folder_.names(), std::set<std::string>{});
}

TEST_P(Pictures, ReplayMakesThePictureAgain) {
  const auto made = run_sagelab(generate({"--output", at("x.png")}));
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const auto result = run_sagelab({"replay", at("x.png"), "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(json::parse(result.out).at("identical"), true) << result.out;
}

TEST_P(Pictures, CompareShowsWhatTheBackendChanges) {
  std::vector<std::string> all = flags();
  all.insert(all.begin(), "compare");
  all.insert(all.end(), {"--a", "sdpa", "--b", "reference", "--locked", "--output", at("out/")});
  const auto result = run_sagelab(all);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto report = json::parse(read_file(folder_ / "out/report.json"));
  EXPECT_EQ(report.at("floor").at("identical"), true);
  const auto& b = report.at("runs").at(1);
  EXPECT_EQ(b.at("served"), json::array({"reference"}));
  EXPECT_EQ(b.at("figures").at("locked_latents").size(), request_.at("num_inference_steps").get<size_t>());
  EXPECT_EQ(b.at("figures").at("quality").at("frames"), 1);
  EXPECT_GT(b.at("figures").at("quality").at("ssim").at("worst"), 0.9999) << "both are exact";
  EXPECT_TRUE(fs::exists(folder_ / "out/side_by_side.png"));
}

TEST_P(Pictures, ABatchMakesOneForEachLine) {
  write_file(folder_ / "p.txt", "A fox.\nA cat.\n");
  std::vector<std::string> all = flags({"prompt", "prompt_2", "prompt_3"});
  all.insert(all.begin(), "batch");
  all.insert(all.end(), {"--prompts", at("p.txt"), "--output", at("out"), "--json"});
  const auto result = run_sagelab(all);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(json::parse(result.out).at("made"), 2);
  const at::Tensor fox = read_png(folder_ / "out/sample_0000.png");
  EXPECT_FALSE(at::equal(fox, read_png(folder_ / "out/sample_0001.png")));
}

// These folders' CLIP may have its keys at the top, as transformers 5 saves them; released ones have them
// below text_model. And a part that a model is without is nothing to miss.
TEST_P(Pictures, InfoMissesNothingUnderAnotherName) {
  const auto result = run_sagelab({"info", "--model", model_, "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto info = json::parse(result.out).at("model");
  EXPECT_EQ(info.at("missing"), json::array());
  EXPECT_EQ(info.at("family"), GetParam().family);
}

INSTANTIATE_TEST_SUITE_P(Families, Pictures,
                         ::testing::Values(Fixture{"flux", "flux_pipelines/dev", "guided"},
                                           Fixture{"sd3", "sd3_pipelines/medium", "skipped"},
                                           Fixture{"sd3", "sd3_pipelines/sd3", "skipped"}),
                         [](const auto& info) {
                           return info.param.path().parent_path().filename().string() + "_" +
                                  info.param.path().filename().string();
                         });

}  // namespace
}  // namespace sagelab
