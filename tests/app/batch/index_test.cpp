// SPDX-License-Identifier: Apache-2.0
#include "app/batch/index.h"

#include <gmock/gmock.h>

namespace sagelab::batch {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

json figures(const json& mean, const json& worst) {
  return {{"mean", mean}, {"worst", worst}};
}

json output(const std::string& spec, double step) {
  return {{"attention", spec},
          {"file", spec + "/a \"fox\" & 50% ’-0.mp4"},
          {"emulated", false},
          {"device", "a <GPU>"},
          {"seconds", {{"total", 10 * step + 1}, {"load", 1}, {"median_step", step}}}};
}

json sample(int index, std::vector<json> outputs, const std::string& status = "done") {
  return {{"index", index},
          {"take", 0},
          {"line", index + 1},
          {"seed", 7},
          {"prompt", "a <fox> & \"cub\""},
          {"request", {{"model", "m&m"}, {"width", 96}, {"height", 64}, {"num_frames", 9}, {"steps", 2}}},
          {"status", status},
          {"outputs", outputs}};
}

Records two_samples() {
  Records records;
  for (int i = 0; i < 2; ++i) {
    auto b = output("b", i == 0 ? 1 : 3);
    b["quality"] = {{"frames", 9},
                    {"identical_frames", 0},
                    {"psnr", figures(i == 0 ? 30 : 40, i == 0 ? 28 : 20)},
                    {"ssim", figures(i == 0 ? 0.8 : 0.9, i == 0 ? 0.5 : 0.6)}};
    records[{i, 0}] = sample(i, {output("a", 2), b});
  }
  return records;
}

TEST(BatchSummary, HasMeansAndTheWorstOfTheSet) {
  const auto summary = summary_of(two_samples());
  EXPECT_EQ(summary.at("samples"), 2);
  EXPECT_EQ(summary.at("done"), 2);
  const auto& a = summary.at("attention").at(0);
  const auto& b = summary.at("attention").at(1);
  EXPECT_EQ(a.at("attention"), "a");
  EXPECT_EQ(a.at("median_step"), 2);
  EXPECT_EQ(a.at("seconds"), 20) << "without loading";
  EXPECT_FALSE(a.contains("psnr"));
  EXPECT_EQ(b.at("psnr"), (json{{"mean", 35}, {"worst", 20}, {"worst_of", {1, 0}}}));
  EXPECT_NEAR(b.at("ssim").at("mean").get<double>(), 0.85, 1e-12);
  EXPECT_EQ(b.at("ssim").at("worst"), 0.5);
  EXPECT_EQ(b.at("ssim").at("worst_of"), (json{0, 0}));
  EXPECT_EQ(b.at("time_ratio"), 1.0);
  EXPECT_EQ(b.at("identical"), 0);
}

TEST(BatchSummary, EqualVideosCountAndEmulatedOnesHaveNoSpeed) {
  auto records = two_samples();
  auto& b = records.at({0, 0})["outputs"][1];
  b["emulated"] = true;
  b["quality"]["identical_frames"] = 9;
  b["quality"]["psnr"] = figures(nullptr, nullptr);
  b["quality"]["ssim"] = figures(1, 1);
  const auto summary = summary_of(records).at("attention").at(1);
  EXPECT_EQ(summary.at("identical"), 1);
  EXPECT_TRUE(summary.at("time_ratio").is_null());
  EXPECT_EQ(summary.at("psnr").at("mean"), 40);
  EXPECT_THAT(summary_text(summary_of(records)), HasSubstr("emulated: quality, not speed"));
}

TEST(BatchIndex, ShowsEverySampleAndEscapesIt) {
  auto records = two_samples();
  records[{2, 0}] =
      sample(2, {json{{"attention", "a"}, {"file", "x.mp4"}, {"error", "out of <memory>"}}}, "failed");
  records[{3, 0}] = sample(3, {}, "failed");
  records[{3, 0}]["error"] = "no & text";
  records[{3, 0}]["request"] = nullptr;
  const auto page = index_html(records);
  EXPECT_THAT(page, HasSubstr("4 samples: 2 done, 2 failed."));
  EXPECT_THAT(page, HasSubstr("src=\"b/a%20%22fox%22%20%26%2050%25%20%E2%80%99-0.mp4\""));
  EXPECT_THAT(page, HasSubstr("a &lt;fox&gt; &amp; "));
  EXPECT_THAT(page, Not(HasSubstr("<fox>")));
  EXPECT_THAT(page, HasSubstr("out of &lt;memory&gt;"));
  EXPECT_THAT(page, HasSubstr("no &amp; text"));
  EXPECT_THAT(page, HasSubstr("PSNR 30.00 dB, SSIM 0.8"));
  EXPECT_THAT(page, HasSubstr("<a href=\"#s1-0\">20.00 dB</a>"));
  EXPECT_THAT(page, HasSubstr("id=\"s1-0\""));
  EXPECT_THAT(page, HasSubstr("Model m&amp;m, on a &lt;GPU&gt;."));
  EXPECT_THAT(page, Not(HasSubstr("x.mp4"))) << "what failed has no file";
  size_t svgs = 0, videos = 0;
  for (auto at = page.find("<svg"); at != std::string::npos; at = page.find("<svg", at + 1)) ++svgs;
  for (auto at = page.find("<video"); at != std::string::npos; at = page.find("<video", at + 1)) ++videos;
  EXPECT_EQ(svgs, 3u);
  EXPECT_EQ(videos, 4u);
  EXPECT_THAT(page, Not(HasSubstr("http://www.w3.org/1999"))) << "nothing from elsewhere";
  EXPECT_THAT(page, Not(HasSubstr("src=\"http")));
}

TEST(BatchIndex, OneSpecHasNoComparison) {
  Records records;
  records[{0, 0}] = sample(0, {output("a", 2)});
  const auto page = index_html(records);
  EXPECT_THAT(page, Not(HasSubstr("PSNR of each sample")));
  EXPECT_THAT(page, HasSubstr("Seconds a step"));
  EXPECT_EQ(summary_of({}).at("attention"), json::array());
}

}  // namespace
}  // namespace sagelab::batch
