// SPDX-License-Identifier: Apache-2.0
// The binary on genuine folders of families that make videos: against diffusers' own frames, compared, in a
// batch.
#include <gtest/gtest.h>

#include "tests/app/cli/family_folder.h"
#include "tests/app/cli/read_frames.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using nlohmann::json;

#ifdef SAGELAB_FFMPEG
const std::string kEnding = ".mp4";
#else
const std::string kEnding = "";  // a folder of frames
#endif

class Videos : public OnFamilyFolder {
 protected:
  int64_t frames() const { return request_.at("num_frames").get<int64_t>(); }
};

TEST_P(Videos, FramesAreDiffusersFrames) {
  const auto result = run_sagelab(generate({"--output", at("x/")}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  expect_diffusers_pixels(read_frames(folder_ / "x", frames()));
}

TEST_P(Videos, CompareShowsWhatTheBackendChanges) {
  expect_comparison_with_reference(frames());
  EXPECT_TRUE(fs::exists(folder_ / ("out/side_by_side" + kEnding)));
}

TEST_P(Videos, SageServesEveryCall) {
  const auto result =
      run_sagelab(generate({"--output", at("x/"), "--attention", "sage2", "--report", at("r.json")}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto attention = json::parse(read_file(folder_ / "r.json")).at("attention");
  ASSERT_EQ(attention.at("served").size(), 1u);
  EXPECT_GT(attention.at("served").at("sage2").at("calls"), 0);
  EXPECT_EQ(attention.at("fallback_calls"), 0);
}

TEST_P(Videos, ABatchMakesOneForEachLine) {
  write_file(folder_ / "p.txt", "A fox.\nA cat.\n");
  const auto result =
      run_sagelab(command("batch", {"--prompts", at("p.txt"), "--output", at("out"), "--json"}, {"prompt"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(json::parse(result.out).at("made"), 2);
  for (const char* sample : {"out/sample_0000", "out/sample_0001"})
    EXPECT_TRUE(fs::exists(folder_ / (sample + kEnding)));
}

TEST_P(Videos, InfoMissesNothing) {
  expect_info_misses_nothing();
}

INSTANTIATE_TEST_SUITE_P(Families, Videos,
                         ::testing::Values(FamilyFolder{"hunyuanvideo", "hunyuanvideo_pipelines/clip",
                                                        "guided"},
                                           FamilyFolder{"mochi", "mochi_pipelines/empty", "guided"}),
                         family_folder_name);

}  // namespace
}  // namespace sagelab
