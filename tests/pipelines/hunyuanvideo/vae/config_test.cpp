// SPDX-License-Identifier: Apache-2.0
#include "pipelines/hunyuanvideo/vae/config.h"

#include <gtest/gtest.h>

#include "tests/support/config_refusal.h"

namespace sagelab::hunyuanvideo {
namespace {

VaeConfig parse(const nlohmann::json& values) {
  return testing::parse<VaeConfig>(values, "vae/config.json");
}

std::vector<std::pair<int64_t, int64_t>> factors(const VaeConfig& c) {
  std::vector<std::pair<int64_t, int64_t>> all;
  for (size_t i = 0; i < c.block_out_channels.size(); ++i)
    all.emplace_back(c.upsampling(int64_t(i)).time, c.upsampling(int64_t(i)).space);
  return all;
}

TEST(HunyuanVideoVaeConfig, UpsamplesWhereDiffusersDoes) {
  using Factors = std::vector<std::pair<int64_t, int64_t>>;
  EXPECT_EQ(factors(parse(nlohmann::json::object())), (Factors{{1, 2}, {2, 2}, {2, 2}, {1, 1}}));
  const auto types = [](const char* type) { return std::vector<std::string>(3, type); };
  EXPECT_EQ(factors(parse({{"block_out_channels", {32, 32, 32}},
                           {"up_block_types", types("HunyuanVideoUpBlock3D")},
                           {"down_block_types", types("HunyuanVideoDownBlock3D")}})),
            (Factors{{2, 2}, {2, 2}, {1, 2}}));
}

TEST(HunyuanVideoVaeConfig, RefusesWhatItDoesNotRun) {
  const nlohmann::json bad[] = {{{"temporal_compression_ratio", 8}},
                                {{"spatial_compression_ratio", 6}},
                                {{"spatial_compression_ratio", 32}},
                                {{"block_out_channels", {32, 32}}},
                                {{"block_out_channels", {30, 32, 32, 32}}},
                                {{"scaling_factor", 0}},
                                {{"act_fn", "mish"}},
                                {{"shift_factor", 0.1}}};
  for (const auto& values : bad) EXPECT_THROW(parse(values), Error) << values;
}

}  // namespace
}  // namespace sagelab::hunyuanvideo
