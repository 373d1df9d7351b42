// SPDX-License-Identifier: Apache-2.0
#include "pipelines/mochi/tokens.h"

#include <ATen/ATen.h>

#include <cmath>

namespace sagelab::mochi {
namespace {

constexpr double kArea = 192.0 * 192.0;  // in no config

}  // namespace

Grid grid_of(const TransformerConfig& c, const at::Tensor& latents) {
  const int64_t p = c.patch_size;
  TORCH_CHECK(
      latents.dim() == 5 && latents.numel() > 0 && latents.size(3) % p == 0 && latents.size(4) % p == 0,
      "latents should be [B, C, T, h, w] of patches ", p, " x ", p, ", not ", latents.sizes());
  return {latents.size(2), latents.size(3) / p, latents.size(4) / p};
}

at::Tensor pack(const TransformerConfig& c, const at::Tensor& latents) {
  const Grid grid = grid_of(c, latents);
  return latents.unflatten(4, {grid.columns, c.patch_size})
      .unflatten(3, {grid.rows, c.patch_size})
      .permute({0, 2, 3, 5, 1, 4, 6})
      .reshape({latents.size(0), grid.tokens(), latents.size(1) * c.patch_area()});
}

at::Tensor unpack(const TransformerConfig& c, const at::Tensor& tokens, const Grid& grid) {
  TORCH_CHECK(tokens.dim() == 3 && tokens.size(1) == grid.tokens() && tokens.size(2) % c.patch_area() == 0,
              "tokens should be [B, ", grid.tokens(), ", C * ", c.patch_area(), "], not ", tokens.sizes());
  const int64_t p = c.patch_size;
  return tokens.unflatten(2, {p, p, -1})
      .unflatten(1, {grid.frames, grid.rows, grid.columns})
      .permute({0, 6, 1, 2, 4, 3, 5})
      .reshape({tokens.size(0), -1, grid.frames, grid.rows * p, grid.columns * p});
}

at::Tensor positions_of(const Grid& grid, at::Device device) {
  const double unit = std::sqrt(kArea / double(grid.rows * grid.columns));
  const auto centres = [&](int64_t count) {
    const double end = double(count) * unit / 2;
    const at::Tensor edges = at::linspace(-end, end, count + 1, at::kFloat);
    return (edges.narrow(0, 0, count) + edges.narrow(0, 1, count)) / 2;
  };
  const std::vector<at::Tensor> axes = {at::arange(grid.frames, at::kFloat), centres(grid.rows),
                                        centres(grid.columns)};
  return at::stack(at::meshgrid(axes, "ij"), -1).view({-1, 3}).to(device);
}

}  // namespace sagelab::mochi
