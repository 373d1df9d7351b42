// SPDX-License-Identifier: Apache-2.0
// `sagelab bench attention`: the real binary.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/app/program.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using ::testing::HasSubstr;

ProgramResult bench(std::vector<std::string> flags) {
  flags.insert(flags.begin(), {"bench", "attention", "--device", "cpu", "--heads", "2", "--repeat", "2"});
  return run_sagelab(flags);
}

void expect_failure(const std::vector<std::string>& flags, int exit_code, const std::string& message) {
  const auto result = bench(flags);
  EXPECT_EQ(result.exit_code, exit_code);
  EXPECT_EQ(result.err, "sagelab: " + message + "\n");
  EXPECT_EQ(result.out, "");
}

TEST(BenchAttentionCommand, TableJsonAndPlot) {
  const TempFolder folder;
  const auto json_file = (folder / "b.json").string(), plot = (folder / "b.svg").string();
  const auto result = bench({"--seq", "20", "40", "--head-dim", "16", "--kv-heads", "1", "--causal",
                             "--distribution", "biased-v", "--backends", "sdpa(math)", "sdpa(cudnn)",
                             "prefer(sdpa(cudnn),reference)", "--json", json_file, "--plot", plot});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, ::testing::StartsWith("attention on "));
  EXPECT_THAT(result.out, HasSubstr(" (cpu), fp32, biased-v inputs (seed 0)\n"));
  EXPECT_THAT(result.out,
              HasSubstr("\n40 tokens, head dim 16, batch 1, 2 heads over 1 of k and v, causal: "));
  EXPECT_THAT(result.out, HasSubstr("cannot run: it needs a CUDA device, not cpu\n"));
  EXPECT_THAT(result.out, HasSubstr("by reference\n"));
  const auto json = nlohmann::json::parse(read_file(json_file));
  ASSERT_EQ(json.at("shapes").size(), 2u);
  const auto& rows = json.at("shapes")[1].at("backends");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_LT(rows[0].at("errors").at("relative_l1"), 1e-5);
  EXPECT_GT(rows[0].at("end_to_end").at("seconds").at("median"), 0);
  EXPECT_EQ(rows[1].at("reason"), "it needs a CUDA device, not cpu");
  EXPECT_EQ(rows[2].at("served"), "reference");
  const auto svg = read_file(plot);
  EXPECT_THAT(svg, HasSubstr(">head dim 16, causal, batch 1, 2 heads<"));
  EXPECT_THAT(svg, HasSubstr(">sdpa(math)<"));
}

TEST(BenchAttentionCommand, TheDefaultIsEveryBackendThatCanRun) {
  const auto result = bench({"--seq", "16", "--head-dim", "64"});
  EXPECT_EQ(result.exit_code, 0);
  for (const auto* spec : {"\nsdpa ", "\nsdpa(flash) ", "\nsdpa(math) ", "\nreference "})
    EXPECT_THAT(result.out, HasSubstr(spec));
  EXPECT_EQ(result.out.find("cannot run"), std::string::npos) << result.out;
}

TEST(BenchAttentionCommand, HelpNamesTheDistributions) {
  const auto help = bench({"--help"}).out;
  for (const auto* name : {"normal: ", "outliers: ", "biased-v: ", "normed-rotated: "})
    EXPECT_THAT(help, HasSubstr(name));
}

TEST(BenchAttentionCommand, WrongUse) {
  expect_failure({"--kv-heads", "3"}, 2,
                 "2 heads are no multiple of 3 of k and v; choose --kv-heads that divides --heads");
  expect_failure({"--backends", "sdpa("}, 2,
                 "attention 'sdpa(': expected an argument, found end at position 6");
  expect_failure(
      {"--distribution", "uniform"}, 2,
      "--distribution: uniform not in {normal,outliers,biased-v,normed-rotated}; see sagelab bench attention "
      "--help");
  expect_failure(
      {"--json", "/nowhere/b.json"}, 1,
      "cannot write /nowhere/b.json: No such file or directory; make the folder /nowhere first, or choose "
      "another place");
}

}  // namespace
}  // namespace sagelab
