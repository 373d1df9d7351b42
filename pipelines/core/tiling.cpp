// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/tiling.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace sagelab {
namespace {

// The last n of dim, detached from the tile's storage.
at::Tensor tail(const at::Tensor& tile, int64_t dim, int64_t n) {
  n = std::min(n, tile.size(dim));
  return tile.narrow(dim, tile.size(dim) - n, n).clone(at::MemoryFormat::Contiguous);
}

}  // namespace

int64_t TileAxis::output(int64_t size) const {
  int64_t sum = 0;
  for (int64_t i = 0; i < count(size); ++i) sum += std::min(length(size, i) * scale, keep);
  return sum;
}

void blend_tile(const at::Tensor& a, at::Tensor& b, int64_t dim, int64_t extent) {
  const int64_t n = std::min({a.size(dim), b.size(dim), extent});
  if (n == 0) return;
  std::vector<int64_t> shape(b.dim(), 1);
  shape[dim < 0 ? dim + b.dim() : dim] = n;
  // diffusers multiplies by Python floats, which half-precision arithmetic sees in fp32: weights of at least
  // one dimension promote, so each product is rounded back.
  const at::Tensor ramp = at::arange(n, at::kDouble) / double(n);
  const auto options = b.options().dtype(at::promote_types(b.scalar_type(), at::kFloat));
  const at::Tensor rising = ramp.view(shape).to(options), falling = (1 - ramp).view(shape).to(options);
  at::Tensor head = b.narrow(dim, 0, n);
  const at::Tensor faded = (a.narrow(dim, a.size(dim) - n, n) * falling).to(b.scalar_type());
  head.copy_(faded + (head * rising).to(b.scalar_type()));
}

at::Tensor decode_tiles(const at::Tensor& z, const TileAxis& rows, const TileAxis& columns,
                        const std::function<at::Tensor(const at::Tensor& tile)>& decode) {
  TORCH_CHECK(rows.stride > 0 && columns.stride > 0, "tiles of ", rows.tile, " x ", columns.tile,
              " latents cannot advance");
  const int64_t h = z.size(-2), w = z.size(-1);
  at::Tensor out;
  std::vector<at::Tensor> above(columns.count(w));  // bottom edges of the row before, by column
  for (int64_t i = 0, y = 0; i < rows.count(h); ++i) {
    at::Tensor left;  // right edge of the tile before
    int64_t kept_rows = 0;
    for (int64_t j = 0, x = 0; j < columns.count(w); ++j) {
      at::Tensor tile = decode(z.narrow(-2, i * rows.stride, rows.length(h, i))
                                   .narrow(-1, j * columns.stride, columns.length(w, j)));
      if (i > 0) blend_tile(above[j], tile, -2, rows.blend);
      if (j > 0) blend_tile(left, tile, -1, columns.blend);
      if (i + 1 < rows.count(h)) above[j] = tail(tile, -2, rows.blend);
      if (j + 1 < columns.count(w)) left = tail(tile, -1, columns.blend);
      if (!out.defined()) {
        auto shape = tile.sizes().vec();
        shape[shape.size() - 2] = rows.output(h);
        shape[shape.size() - 1] = columns.output(w);
        out = at::empty(shape, tile.options());
      }
      kept_rows = std::min(tile.size(-2), rows.keep);
      const int64_t kept_columns = std::min(tile.size(-1), columns.keep);
      out.narrow(-2, y, kept_rows)
          .narrow(-1, x, kept_columns)
          .copy_(tile.narrow(-2, 0, kept_rows).narrow(-1, 0, kept_columns));
      x += kept_columns;
    }
    y += kept_rows;
  }
  return out;
}

}  // namespace sagelab
