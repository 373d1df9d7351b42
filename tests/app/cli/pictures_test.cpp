// SPDX-License-Identifier: Apache-2.0
// The binary on a genuine folder of a family that makes pictures: against diffusers' own, and several at
// once.
#include <gmock/gmock.h>

#include "tests/app/cli/read_frames.h"
#include "tests/app/program.h"
#include "tests/support/parity.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using nlohmann::json;
using ::testing::HasSubstr;

const fs::path kPictures = fs::path(SAGELAB_FIXTURES) / "flux_pipelines" / "dev";

class Pictures : public ::testing::Test {
 protected:
  TempFolder folder_;
  json request_ = json::parse(read_file(kPictures / "request.json"));

  std::string at(const std::string& name) const { return (folder_ / name).string(); }

  std::vector<std::string> generate(std::vector<std::string> more) const {
    const auto number = [&](const char* key) { return request_.at(key).dump(); };
    const auto text = [&](const char* key) { return request_.at(key).get<std::string>(); };
    std::vector<std::string> all{"generate", "--model", (kPictures / "model").string(), "--device", "cpu"};
    const std::pair<const char*, std::string> kFlags[] = {
        {"--prompt", text("prompt")},
        {"--negative-prompt", text("negative_prompt")},
        {"--negative-prompt-2", text("negative_prompt_2")},
        {"--true-cfg-scale", number("true_cfg_scale")},
        {"--max-sequence-length", number("max_sequence_length")},
        {"--width", number("width")},
        {"--height", number("height")},
        {"--steps", number("num_inference_steps")},
        {"--guidance-scale", number("guidance_scale")},
        {"--seed", number("seed")}};
    for (const auto& [flag, value] : kFlags) all.insert(all.end(), {flag, value});
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};

TEST_F(Pictures, APngIsDiffusersPicture) {
  const auto result = run_sagelab(generate({"--output", at("x.png")}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto theirs = Dump(kPictures / "dump.safetensors")["guided.pixels"].to(at::kInt);
  const auto ours = read_png(folder_ / "x.png").unsqueeze(0).to(at::kInt);
  ASSERT_EQ(ours.sizes(), theirs.sizes());
  const auto off = (ours - theirs).abs();
  EXPECT_LE(off.max().item<int>(), 1);
  EXPECT_GE(off.eq(0).to(at::kDouble).mean().item<double>(), 0.999);
  EXPECT_EQ(folder_.names(), std::set<std::string>{"x.png"});
}

TEST_F(Pictures, SeveralHaveSeedsCountedUp) {
  const auto result = run_sagelab(generate({"--output", at("x.png"), "--num-images", "2"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(folder_.names(), (std::set<std::string>{"x-11.png", "x-12.png"}));
  const auto alone = run_sagelab(generate({"--output", at("y.png"), "--seed", "12"}));
  ASSERT_EQ(alone.exit_code, 0) << alone.err;
  EXPECT_TRUE(at::equal(read_png(folder_ / "x-12.png"), read_png(folder_ / "y.png")));
  EXPECT_FALSE(at::equal(read_png(folder_ / "x-11.png"), read_png(folder_ / "y.png")));
}

TEST_F(Pictures, WhatIsOfOneRunIsRefusedForSeveral) {
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

// This folder's CLIP has its keys at the top, as transformers 5 saves them; released ones have them below
// text_model.
TEST_F(Pictures, InfoMissesNothingUnderAnotherName) {
  const auto result = run_sagelab({"info", "--model", (kPictures / "model").string(), "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto info = json::parse(result.out).at("model");
  EXPECT_EQ(info.at("missing"), json::array());
  EXPECT_EQ(info.at("family"), "flux");
}

}  // namespace
}  // namespace sagelab
