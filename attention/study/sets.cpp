// SPDX-License-Identifier: Apache-2.0
#include "attention/study/sets.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <vector>

#include "attention/error.h"

namespace sagelab::attention::study {
namespace {

constexpr int64_t kHeads = 2, kDim = 64, kTokens = 4096, kText = 512;

enum Traits : unsigned { kOutliers = 1, kBiasedV = 2, kNormed = 4 };

struct Recipe {
  SetInfo info;
  unsigned traits;
  std::array<int64_t, 3>
      grid;  // frames, rows, columns of patches behind kText text tokens; zeros: kTokens tokens
};

constexpr std::array<Recipe, 5> kRecipes{{
    {{"normal", "q, k, v from N(0, 1)"}, 0, {}},
    {{"outliers", "offsets of channels: N(0, 2^2) in q and N(0, 4^2) in k, every 16th channel 4 times that"},
     kOutliers,
     {}},
    {{"biased-v", "as outliers, and offsets N(0, 4^2) of the channels of v"}, kOutliers | kBiasedV, {}},
    {{"image", "as biased-v; q and k RMS-normed and rotated on a grid of 64x64, behind 512 text tokens"},
     kOutliers | kBiasedV | kNormed,
     {1, 64, 64}},
    {{"video", "as image on a grid of 33x45x80: 119,312 tokens"},
     kOutliers | kBiasedV | kNormed,
     {33, 45, 80}},
}};

class Draw {
 public:
  explicit Draw(uint64_t seed) : generator_(at::detail::createCPUGenerator(seed)) {}
  at::Tensor operator()(at::IntArrayRef shape) { return at::randn(shape, generator_, at::kFloat); }
  // One offset a channel, [H, 1, D].
  at::Tensor offsets(double spread) {
    at::Tensor x = (*this)({kHeads, 1, kDim}) * spread;
    x.slice(2, 0, kDim, 16) *= 4;
    return x;
  }

 private:
  at::Generator generator_;
};

at::Tensor rms_normed(const at::Tensor& x, const at::Tensor& weight) {
  return x * at::rsqrt(x.square().mean(-1, true) + 1e-6) * weight;
}

// Angles [S, D/2] of a grid behind text tokens, which do not turn: a quarter of the pairs by frame, the rest
// by row and column; without frames half by row, half by column. Base 10000.
at::Tensor angles(const std::array<int64_t, 3>& grid) {
  const int64_t pairs = kDim / 2, by_frame = grid[0] > 1 ? pairs / 4 : 0, by_row = (pairs - by_frame) / 2;
  const std::array<int64_t, 3> share = {by_frame, by_row, pairs - by_frame - by_row};
  std::vector<at::Tensor> axes;
  for (size_t axis = 0; axis < 3; ++axis) {
    if (share[axis] == 0) continue;
    const at::Tensor frequency = at::pow(10000.0, -at::arange(share[axis], at::kFloat) / double(share[axis]));
    std::array<int64_t, 4> shape = {1, 1, 1, 1};
    shape[axis] = grid[axis];
    const at::Tensor position = at::arange(grid[axis], at::kFloat).view(shape);
    axes.push_back((position * frequency).expand({grid[0], grid[1], grid[2], share[axis]}));
  }
  const at::Tensor patches = at::cat(axes, 3).flatten(0, 2);
  return at::cat({at::zeros({kText, pairs}), patches});
}

at::Tensor rotated(const at::Tensor& x, const at::Tensor& angle) {
  const at::Tensor even = x.slice(2, 0, kDim, 2), odd = x.slice(2, 1, kDim, 2), c = angle.cos(),
                   s = angle.sin();
  return at::stack({even * c - odd * s, odd * c + even * s}, 3).flatten(2);
}

const Recipe& recipe_of(std::string_view name) {
  std::string known;
  for (const Recipe& r : kRecipes) {
    if (r.info.name == name) return r;
    known += (known.empty() ? "" : ", ") + std::string(r.info.name);
  }
  throw Error(fmt::format("there is no set of inputs '{}'", name), "there are " + known);
}

}  // namespace

std::span<const SetInfo> sets() {
  static const auto infos = [] {
    std::array<SetInfo, kRecipes.size()> all;
    for (size_t i = 0; i < all.size(); ++i) all[i] = kRecipes[i].info;
    return all;
  }();
  return infos;
}

Layer draw(std::string_view set, int layer, at::Device device) {
  const Recipe& r = recipe_of(set);
  const double strength = std::exp2(layer - 1);
  const int64_t patches = r.grid[0] * r.grid[1] * r.grid[2], tokens = patches ? kText + patches : kTokens;
  Draw draw(uint64_t(layer) * 1000 + uint64_t(&r - kRecipes.data()));
  Layer x{draw({kHeads, tokens, kDim}), draw({kHeads, tokens, kDim}), draw({kHeads, tokens, kDim})};
  if (r.traits & kOutliers) {
    x.q += draw.offsets(2 * strength);
    x.k += draw.offsets(4 * strength);
  }
  if (r.traits & kBiasedV) x.v += draw.offsets(4 * strength);
  if (r.traits & kNormed) {
    const at::Tensor angle = angles(r.grid);
    x.q = rotated(rms_normed(x.q, 1 + draw({kDim}) * 0.2), angle);
    x.k = rotated(rms_normed(x.k, 1 + draw({kDim}) * 0.2), angle);
  }
  return {x.q.to(device), x.k.to(device), x.v.to(device)};
}

}  // namespace sagelab::attention::study
