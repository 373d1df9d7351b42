// SPDX-License-Identifier: Apache-2.0
#include "pipelines/common/joint/grid_rope.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <numeric>
#include <vector>

#include "attention/error.h"

namespace sagelab {
namespace {

constexpr int64_t kMostHeadDim = 1024;  // far beyond any model

// [T, h, w, sum of the axes] -> [T * h * w, sum].
at::Tensor combine(const at::Tensor& t, const at::Tensor& h, const at::Tensor& w) {
  const int64_t nt = t.size(0), nh = h.size(0), nw = w.size(0);
  return at::cat({t.view({nt, 1, 1, -1}).expand({nt, nh, nw, -1}),
                  h.view({1, nh, 1, -1}).expand({nt, nh, nw, -1}),
                  w.view({1, 1, nw, -1}).expand({nt, nh, nw, -1})},
                 -1)
      .view({nt * nh * nw, -1});
}

}  // namespace

RotaryAxis rotary_axis(const at::Tensor& positions, int64_t dim, double theta) {
  const at::Tensor exponents = at::arange(0, dim, 2, at::kFloat).div(dim);
  const at::Tensor angles = at::outer(positions, at::pow(theta, exponents).reciprocal());
  return {angles.cos(), angles.sin()};
}

attention::Rope grid_rope(const std::array<RotaryAxis, 3>& axes, int64_t before, int64_t after) {
  const at::Tensor cos = combine(axes[0].cos, axes[1].cos, axes[2].cos);
  const at::Tensor sin = combine(axes[0].sin, axes[1].sin, axes[2].sin);
  const auto rows = [&](int64_t count, double value) {
    return at::full({count, cos.size(1)}, value, cos.options());
  };
  return {at::cat({rows(before, 1), cos, rows(after, 1)}),
          at::cat({rows(before, 0), sin, rows(after, 0)}),
          {},
          {}};
}

std::array<int64_t, 3> rope_dims_of(Config& config, const std::string& key,
                                    const std::array<int64_t, 3>& fallback, int64_t head_dim) {
  const std::vector<int64_t> dims = config.integers(key, {fallback.begin(), fallback.end()});
  const auto refuse = [&](const std::string& why) {
    throw Error(fmt::format("{}: {} = [{}] should {}", config.where(), key, fmt::join(dims, ", "), why));
  };
  if (dims.size() != fallback.size()) refuse("have three entries");
  for (const int64_t dim : dims)
    if (dim < 2 || dim % 2 || dim > kMostHeadDim)
      refuse(fmt::format("hold even numbers from 2 to {}", kMostHeadDim));
  if (std::accumulate(dims.begin(), dims.end(), int64_t(0)) != head_dim)
    refuse(fmt::format("add up to attention_head_dim = {}", head_dim));
  return {dims[0], dims[1], dims[2]};
}

}  // namespace sagelab
