// SPDX-License-Identifier: Apache-2.0
// One sample at a time: every stage, every call.
#include "pipelines/mochi/transformer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/pipelines/mochi/fixture.h"
#include "tests/support/joint_only.h"

namespace sagelab::mochi {
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
  const int64_t text_ = in_.lengths.item<int64_t>();
};

TEST_P(SampleParity, EveryStage) {
  std::vector<std::string> names = {"temb", "patch_embed", "caption_proj"};
  for (int64_t i = 0; i < config_.layers; ++i)
    for (const char* kind : {"block", "context"}) names.push_back(fmt::format("{}.{}", kind, i));
  testing::expect_stages(model_, in_, dump_, names);
}

// What stands in padded rows is not read, however many there are.
TEST_P(SampleParity, PaddingIsNotRead) {
  const at::Tensor expected = run(model_, in_);
  Inputs in = in_;
  in.text = at::cat({in.text.narrow(1, 0, text_), at::full({1, 4, in.text.size(2)}, 1e30)}, 1);
  EXPECT_TRUE(at::equal(run(model_, in), expected));
  in.text = in.text.narrow(1, 0, text_);
  EXPECT_TRUE(at::equal(run(model_, in), expected));
}

TEST_P(SampleParity, EveryBlockIsOneJointCall) {
  const JointOnly backend;
  attention::Recorder recorder;
  attention::Site site;
  site.step = 3;
  site.steps = 7;
  site.branch = attention::Branch::Uncond;
  EXPECT_TRUE(matches(model_(in_, {backend, recorder, site, {}}), dump_, "output", kBound));
  const int64_t video = grid_of(config_, in_.latents).tokens(), d = config_.dim();
  ASSERT_EQ(backend.seen.size(), size_t(config_.layers));
  for (int64_t i = 0; i < config_.layers; ++i) {
    const JointOnly::Seen& one = backend.seen[size_t(i)];
    EXPECT_EQ(one.site.layer, i);
    EXPECT_EQ(one.site.call, i);
    EXPECT_EQ(one.site.layers, config_.layers);
    EXPECT_EQ(one.site.block, "joint");
    JointOnly::expect_run(one, site);
    const bool last = i == config_.layers - 1;
    EXPECT_EQ(one.rows, text_ == 0 ? std::vector<int64_t>{video} : (std::vector<int64_t>{video, text_}));
    EXPECT_EQ(one.out_strides,
              text_ == 0 ? std::vector<int64_t>{d} : (std::vector<int64_t>{d, last ? 0 : d}));
    for (const void* norm : one.q_norms) EXPECT_NE(norm, nullptr);
    EXPECT_EQ(one.q_norms.front() == one.q_norms.back(), text_ == 0);
  }
  EXPECT_TRUE(backend.one_view);
}

TEST_P(SampleParity, TheReferenceWritesToTheSamePlaces) {
  EXPECT_TRUE(matches(run(model_, in_, {}, "reference"), dump_, "output", kBound));
}

TEST_P(SampleParity, StopsBetweenBlocks) {
  testing::expect_stop_after("context.0", model_, in_);
}

TEST_P(SampleParity, TheSameCallGivesTheSameBits) {
  EXPECT_TRUE(at::equal(run(model_, in_), run(model_, in_)));
}

TEST(MochiFeedForward, RowsInTurnsAreWhatAllAtOnceAre) {
  at::manual_seed(7);
  FeedForward ff;
  ff.in.weight = at::randn({48, 16}), ff.out.weight = at::randn({16, 24});
  const at::Tensor all = at::randn({1, 40, 16});
  const auto halves = at::matmul(all, ff.in.weight.t()).chunk(2, 2);
  const at::Tensor expected = at::matmul(halves[0] * at::silu(halves[1]), ff.out.weight.t());
  for (const int64_t at_once : {1, 8, 36, 37, 100}) {
    SCOPED_TRACE(at_once);
    const at::Tensor x = all.clone();
    feed_forward_swiglu_(ff, x.narrow(1, 2, 37), at_once);
    EXPECT_TRUE(at::allclose(x.narrow(1, 2, 37), expected.narrow(1, 2, 37), 1e-5, 1e-5));
    EXPECT_TRUE(x.narrow(1, 0, 2).equal(all.narrow(1, 0, 2)));
    EXPECT_TRUE(x.narrow(1, 39, 1).equal(all.narrow(1, 39, 1)));
  }
}

INSTANTIATE_TEST_SUITE_P(Mochi, SampleParity, ::testing::ValuesIn(kSamples), testing::sample_name);

}  // namespace
}  // namespace sagelab::mochi
