// SPDX-License-Identifier: Apache-2.0
#include "pipelines/hunyuanvideo/tokens.h"

#include <ATen/ATen.h>

#include "pipelines/common/joint/grid_rope.h"

namespace sagelab::hunyuanvideo {

Grid grid_of(const TransformerConfig& c, const at::Tensor& latents) {
  const int64_t pt = c.patch_size_t, p = c.patch_size;
  TORCH_CHECK(latents.dim() == 5 && latents.numel() > 0 && latents.size(2) % pt == 0 &&
                  latents.size(3) % p == 0 && latents.size(4) % p == 0,
              "latents should be [B, C, T, h, w] of patches ", pt, " x ", p, " x ", p, ", not ",
              latents.sizes());
  return {latents.size(2) / pt, latents.size(3) / p, latents.size(4) / p};
}

at::Tensor pack(const TransformerConfig& c, const at::Tensor& latents) {
  const Grid grid = grid_of(c, latents);
  const int64_t batch = latents.size(0), channels = latents.size(1), pt = c.patch_size_t, p = c.patch_size;
  return latents.reshape({batch, channels, grid.frames, pt, grid.rows, p, grid.columns, p})
      .permute({0, 2, 4, 6, 1, 3, 5, 7})
      .reshape({batch, grid.tokens(), channels * c.patch_volume()});
}

at::Tensor unpack(const TransformerConfig& c, const at::Tensor& tokens, const Grid& grid) {
  TORCH_CHECK(tokens.dim() == 3 && tokens.size(1) == grid.tokens() && tokens.size(2) % c.patch_volume() == 0,
              "tokens should be [B, ", grid.tokens(), ", C * ", c.patch_volume(), "], not ", tokens.sizes());
  const int64_t batch = tokens.size(0), channels = tokens.size(2) / c.patch_volume();
  const int64_t pt = c.patch_size_t, p = c.patch_size;
  return tokens.reshape({batch, grid.frames, grid.rows, grid.columns, channels, pt, p, p})
      .permute({0, 4, 1, 5, 2, 6, 3, 7})
      .reshape({batch, channels, grid.frames * pt, grid.rows * p, grid.columns * p});
}

attention::Rope rope_table(const TransformerConfig& c, const Grid& grid, int64_t text_len,
                           at::Device device) {
  const auto axis = [&](int64_t count, int64_t dim) {
    return rotary_axis(at::arange(count, at::kFloat), dim, c.rope_theta);
  };
  const attention::Rope rope = grid_rope({axis(grid.frames, c.rope_dims[0]), axis(grid.rows, c.rope_dims[1]),
                                          axis(grid.columns, c.rope_dims[2])},
                                         0, text_len);
  return {rope.cos.to(device), rope.sin.to(device), {}, {}};
}

}  // namespace sagelab::hunyuanvideo
