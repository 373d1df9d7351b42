// SPDX-License-Identifier: Apache-2.0
// The binary on a genuine folder of a family that makes pictures: against diffusers' own, and several at
// once.
#include <gmock/gmock.h>

#include "tests/app/cli/family_folder.h"
#include "tests/app/cli/read_frames.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using nlohmann::json;
using ::testing::HasSubstr;

class Pictures : public OnFamilyFolder {
 protected:
  std::string picture_of_seed(int64_t more) const {
    return "x-" + std::to_string(request_.at("seed").get<int64_t>() + more) + ".png";
  }
};

TEST_P(Pictures, APngIsDiffusersPicture) {
  const auto result = run_sagelab(generate({"--output", at("x.png")}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  expect_diffusers_pixels(read_png(folder_ / "x.png").unsqueeze(0));
  EXPECT_EQ(folder_.names(), std::set<std::string>{"x.png"});
}

TEST_P(Pictures, SeveralHaveSeedsCountedUp) {
  const auto result = run_sagelab(generate({"--output", at("x.png"), "--num-images", "2", "--json"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string first = picture_of_seed(0), second = picture_of_seed(1);
  std::istringstream lines(result.out);
  std::vector<std::string> outputs;
  for (std::string line; std::getline(lines, line);) outputs.push_back(json::parse(line).at("output"));
  EXPECT_EQ(outputs, (std::vector<std::string>{at(first), at(second)}));
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
  expect_comparison_with_reference(1);
  EXPECT_TRUE(fs::exists(folder_ / "out/side_by_side.png"));
}

TEST_P(Pictures, ABatchMakesOneForEachLine) {
  write_file(folder_ / "p.txt", "A fox.\nA cat.\n");
  const auto result =
      run_sagelab(command("batch", {"--prompts", at("p.txt"), "--output", at("out"), "--json"},
                          {"prompt", "prompt_2", "prompt_3"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(json::parse(result.out).at("made"), 2);
  const at::Tensor fox = read_png(folder_ / "out/sample_0000.png");
  EXPECT_FALSE(at::equal(fox, read_png(folder_ / "out/sample_0001.png")));
}

// These folders' CLIP may have its keys at the top, as transformers 5 saves them; released ones have them
// below text_model.
TEST_P(Pictures, InfoMissesNothingUnderAnotherName) {
  expect_info_misses_nothing();
}

INSTANTIATE_TEST_SUITE_P(Families, Pictures,
                         ::testing::Values(FamilyFolder{"flux", "flux_pipelines/dev", "guided"},
                                           FamilyFolder{"sd3", "sd3_pipelines/medium", "skipped"},
                                           FamilyFolder{"sd3", "sd3_pipelines/sd3", "skipped"}),
                         family_folder_name);

}  // namespace
}  // namespace sagelab
