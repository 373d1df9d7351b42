// SPDX-License-Identifier: Apache-2.0
// Decoding in overlapping spatial tiles as every diffusers VAE does it. Tiles see less than the whole latent,
// so their sizes and the order of blending are part of the result.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <functional>

namespace sagelab {

// One axis of a tiled decode.
struct TileAxis {
  int64_t tile = 0;    // latents that a tile sees
  int64_t stride = 0;  // latents from one tile's start to the next's
  int64_t blend = 0;   // outputs over which a tile fades into the one before it
  int64_t keep = 0;    // outputs of a tile that reach the result, at most
  int64_t scale = 1;   // outputs per latent

  int64_t count(int64_t size) const { return (size + stride - 1) / stride; }
  // Latents of tile i.
  int64_t length(int64_t size, int64_t i) const { return std::min(tile, size - i * stride); }
  // Outputs in all: not always size * scale, where the constants do not divide.
  int64_t output(int64_t size) const;
};

// Fades b's first outputs along dim from a's last ones, in place: over min(a, b, extent) outputs.
void blend_tile(const at::Tensor& a, at::Tensor& b, int64_t dim, int64_t extent);

// z [..., h, w] -> [..., H, W]. decode is called once per tile, row by row, on a view of z; a tile is blended
// with the finished one above, then with the finished one to its left, then cropped. Of finished tiles only
// the edges are kept.
at::Tensor decode_tiles(const at::Tensor& z, const TileAxis& rows, const TileAxis& columns,
                        const std::function<at::Tensor(const at::Tensor& tile)>& decode);

}  // namespace sagelab
