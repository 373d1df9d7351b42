// SPDX-License-Identifier: Apache-2.0
#include "attention/study/study.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "attention/error.h"

namespace sagelab::attention::study {
namespace {

// Two tiles of queries and keys that do not fill a tile.
Layer small(std::string_view set, int layer = 1) {
  const Layer all = draw(set, layer, at::kCPU);
  const auto cut = [](const at::Tensor& x) { return x.narrow(1, 0, 300).contiguous(); };
  return {cut(all.q), cut(all.k), cut(all.v)};
}

Errors of(const Layer& layer, const Choice& choice) {
  return errors_of(layer, choice, truth_of(layer, 2));
}

TEST(Study, SetsAreTheSameOnEveryDraw) {
  for (const SetInfo& set : sets()) {
    if (set.name == "video") continue;  // large
    const Layer a = draw(set.name, 2, at::kCPU), b = draw(set.name, 2, at::kCPU),
                other = draw(set.name, 3, at::kCPU);
    EXPECT_TRUE(at::equal(a.q, b.q) && at::equal(a.k, b.k) && at::equal(a.v, b.v)) << set.name;
    EXPECT_FALSE(at::equal(a.k, other.k)) << set.name;
    EXPECT_EQ(a.q.sizes(), a.k.sizes());
  }
}

TEST(Study, UnknownSet) {
  try {
    draw("moon", 0, at::kCPU);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "there is no set of inputs 'moon'");
    EXPECT_EQ(e.hint(), "there are normal, outliers, biased-v, image, video");
  }
}

TEST(Study, TheTruthIsAttention) {
  const Layer x = small("normal");
  const Truth truth = truth_of(x, 2);
  ASSERT_EQ(truth.tiles, (std::vector<int64_t>{0, 1}));
  const at::Tensor expected = at::scaled_dot_product_attention(x.q.narrow(1, 0, 256).to(at::kDouble),
                                                               x.k.to(at::kDouble), x.v.to(at::kDouble));
  EXPECT_LT((truth.out - expected).abs().max().item<double>(), 1e-12);
}

// INT8, one scale a token, fp16 values: close. Each coarser choice is farther.
TEST(Study, FinerIsCloser) {
  const Layer x = small("outliers");
  const double fine = of(x, {Smooth::Both, Group::Token, Pv::Fp16, 8}).relative_l1;
  EXPECT_LT(fine, .02);
  EXPECT_GT(of(x, {Smooth::Both, Group::Token, Pv::E4m3, 8}).relative_l1, 1.2 * fine);
  EXPECT_GT(of(x, {Smooth::Both, Group::Token, Pv::Fp16, 4}).relative_l1, 4 * fine);
  const auto by_group = [&](Group group) { return of(x, {Smooth::Both, group, Pv::Fp16, 4}).relative_l1; };
  EXPECT_LT(by_group(Group::Token), by_group(Group::Thread));
  EXPECT_LT(by_group(Group::Thread), by_group(Group::Block));
  EXPECT_LT(by_group(Group::Block), by_group(Group::Tensor));
}

// The order that the paper found where q and k have outliers (table 4).
TEST(Study, SmoothingBothIsBest) {
  const Layer x = small("outliers", 2);
  const auto by = [&](Smooth smooth) { return of(x, {smooth, Group::Thread, Pv::E4m3, 4}).cosine; };
  EXPECT_GT(by(Smooth::Both), by(Smooth::K));
  EXPECT_GT(by(Smooth::Both), by(Smooth::Q));
  EXPECT_GT(std::min(by(Smooth::K), by(Smooth::Q)), by(Smooth::None));
  EXPECT_GT(by(Smooth::Hadamard), 0);
}

// 12 = 3 x 4: three turns of four channels each, which take nothing away.
TEST(Study, HadamardOfAnyHeadDimension) {
  const Layer x = small("normal");
  const auto cut = [](const at::Tensor& t) { return t.narrow(2, 0, 12).contiguous(); };
  const Layer odd{cut(x.q), cut(x.k), cut(x.v)};
  EXPECT_LT(of(odd, {Smooth::Hadamard, Group::Token, Pv::Fp16, 8}).relative_l1, .02);
}

TEST(Study, TooFewTokens) {
  const Layer x = small("normal");
  const Layer tiny{x.q.narrow(1, 0, 127), x.k.narrow(1, 0, 127), x.v.narrow(1, 0, 127)};
  EXPECT_THROW(truth_of(tiny, 1), Error);
}

}  // namespace
}  // namespace sagelab::attention::study
