// SPDX-License-Identifier: Apache-2.0
#include "pipelines/flux/tokens.h"

#include <ATen/ATen.h>

#include <array>
#include <vector>

namespace sagelab::flux {
namespace {

constexpr double kTheta = 10000.0;  // not in the config

// Frequencies, angles and their sines are fp64, as diffusers has them: [positions, dim / 2].
at::Tensor angles_of(const at::Tensor& positions, int64_t dim) {
  const at::Tensor exponents = at::arange(0, dim, 2, at::kDouble).div(dim);
  return at::outer(positions.to(at::kDouble), at::pow(kTheta, exponents).reciprocal());
}

}  // namespace

at::Tensor pack(const at::Tensor& latents) {
  TORCH_CHECK(latents.dim() == 4 && latents.size(2) % 2 == 0 && latents.size(3) % 2 == 0,
              "latents should be [B, C, h, w] with even h and w, not ", latents.sizes());
  const auto s = latents.sizes();
  return latents.reshape({s[0], s[1], s[2] / 2, 2, s[3] / 2, 2})
      .permute({0, 2, 4, 1, 3, 5})
      .reshape({s[0], (s[2] / 2) * (s[3] / 2), s[1] * 4});
}

at::Tensor unpack(const at::Tensor& tokens, const Grid& grid) {
  TORCH_CHECK(tokens.dim() == 3 && tokens.size(1) == grid.tokens() && tokens.size(2) % 4 == 0,
              "tokens should be [B, ", grid.tokens(), ", 4 C], not ", tokens.sizes());
  const int64_t batch = tokens.size(0), channels = tokens.size(2) / 4;
  return tokens.reshape({batch, grid.rows, grid.columns, channels, 2, 2})
      .permute({0, 3, 1, 4, 2, 5})
      .reshape({batch, channels, 2 * grid.rows, 2 * grid.columns});
}

attention::Rope rope_table(const TransformerConfig& c, int64_t text_len, const Grid& grid,
                           const Target& target) {
  const auto positions = [&](int64_t count) {
    return at::arange(count, at::kFloat).to(target.dtype).to(at::kFloat);
  };
  const at::Tensor none = at::zeros({1}, at::kFloat);
  const std::array<int64_t, 3> sizes = {grid.rows, grid.columns, -1};
  const auto spread = [&](const at::Tensor& axis) { return axis.expand(sizes); };
  const at::Tensor image = at::cat({spread(angles_of(none, c.rope_dims[0])),
                                    spread(angles_of(positions(grid.rows), c.rope_dims[1]).unsqueeze(1)),
                                    spread(angles_of(positions(grid.columns), c.rope_dims[2]))},
                                   -1)
                               .view({grid.tokens(), c.head_dim / 2});
  const at::Tensor angles = at::cat({at::zeros({text_len, c.head_dim / 2}, at::kDouble), image});
  const auto moved = [&](const at::Tensor& x) { return x.to(at::kFloat).to(target.device); };
  return {moved(angles.cos()), moved(angles.sin()), {}, {}};
}

}  // namespace sagelab::flux
