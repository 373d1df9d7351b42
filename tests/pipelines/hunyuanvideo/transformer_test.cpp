// SPDX-License-Identifier: Apache-2.0
// One sample at a time: every stage, every call.
#include "pipelines/hunyuanvideo/transformer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/pipelines/hunyuanvideo/fixture.h"
#include "tests/support/joint_only.h"

namespace sagelab::hunyuanvideo {
namespace {

using testing::Dump;
using testing::JointOnly;
using testing::matches;

class SampleParity : public ::testing::TestWithParam<Sample> {
 protected:
  const Dump dump_ = dump_of(GetParam());
  const Transformer model_ = open(GetParam().name);
  const TransformerConfig& config_ = model_.config();
  const Inputs in_ = inputs_of(dump_, config_);
};

TEST_P(SampleParity, EveryStage) {
  std::vector<std::string> names = {"temb", "x_embedder", "refiner.temb", "refiner.proj_in",
                                    "context_embedder"};
  const auto blocks = [&](const char* kind, int64_t count) {
    for (int64_t i = 0; i < count; ++i) names.push_back(fmt::format("{}.{}", kind, i));
  };
  blocks("refiner", config_.refiner_layers);
  blocks("block", config_.layers);
  blocks("single", config_.single_layers);
  testing::expect_stages(model_, in_, dump_, names);
}

// What stands in padded rows is not read, however many there are.
TEST_P(SampleParity, PaddingIsNotRead) {
  const int64_t valid = in_.lengths.item<int64_t>();
  Inputs in = in_;
  in.text = at::cat({in.text.narrow(1, 0, valid), at::full({1, 4, in.text.size(2)}, 1e30)}, 1);
  in.rope = rope_table(config_, grid_of(config_, in.latents), valid + 4, at::kCPU);
  EXPECT_TRUE(at::equal(run(model_, in), run(model_, in_)));
  in.text = in.text.narrow(1, 0, valid);
  EXPECT_TRUE(at::equal(run(model_, in), run(model_, in_)));
}

TEST_P(SampleParity, EveryBlockIsOneJointCall) {
  const JointOnly backend;
  attention::Recorder recorder;
  attention::Site site;
  site.step = 3;
  site.steps = 7;
  site.branch = attention::Branch::Uncond;
  EXPECT_TRUE(matches(model_(in_, {backend, recorder, site, {}}), dump_, "output", kBound));
  const int64_t text = in_.lengths.item<int64_t>(), video = grid_of(config_, in_.latents).tokens();
  const int64_t d = config_.dim();
  ASSERT_EQ(backend.seen.size(), size_t(config_.blocks()));
  for (int64_t i = 0; i < config_.blocks(); ++i) {
    const JointOnly::Seen& one = backend.seen[size_t(i)];
    const bool refiner = i < config_.refiner_layers, single = i >= config_.refiner_layers + config_.layers;
    EXPECT_EQ(one.site.layer, i);
    EXPECT_EQ(one.site.call, i);
    EXPECT_EQ(one.site.layers, config_.blocks());
    EXPECT_EQ(one.site.block, refiner ? "refiner" : single ? "single" : "double");
    JointOnly::expect_run(one, site);
    const std::vector<int64_t> rows = refiner  ? std::vector<int64_t>{text}
                                      : single ? std::vector<int64_t>{video + text}
                                               : std::vector<int64_t>{video, text};
    EXPECT_EQ(one.rows, rows);
    // Single blocks: columns [0, D) of what the output projection reads.
    EXPECT_THAT(one.out_strides, ::testing::Each(single ? d + config_.ff_dim() : d));
    EXPECT_EQ(one.q_norms.front() == nullptr, refiner);
    EXPECT_EQ(one.q_norms.front() == one.q_norms.back(), refiner || single);
  }
  EXPECT_TRUE(backend.one_view);
}

TEST_P(SampleParity, TheReferenceWritesToTheSamePlaces) {
  EXPECT_TRUE(matches(run(model_, in_, {}, "reference"), dump_, "output", kBound));
}

TEST_P(SampleParity, StopsBetweenBlocks) {
  testing::expect_stop_after("block.0", model_, in_);
  if (config_.refiner_layers > 1) testing::expect_stop_after("refiner.0", model_, in_);
  if (config_.single_layers > 1) testing::expect_stop_after("single.0", model_, in_);
}

TEST_P(SampleParity, TheSameCallGivesTheSameBits) {
  EXPECT_TRUE(at::equal(run(model_, in_), run(model_, in_)));
}

INSTANTIATE_TEST_SUITE_P(HunyuanVideo, SampleParity, ::testing::ValuesIn(kSamples), testing::sample_name);

}  // namespace
}  // namespace sagelab::hunyuanvideo
