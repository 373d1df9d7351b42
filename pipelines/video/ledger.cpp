// SPDX-License-Identifier: Apache-2.0
#include "pipelines/video/ledger.h"

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <vector>

#include "pipelines/video/conv.h"

namespace sagelab {

Ledger::Ledger(const Target& target)
    : on_cpu_(target.device.is_cpu()),
      unfolds_small_(on_cpu_ && target.dtype == at::kFloat),
      element_size_(int64_t(c10::elementSize(target.dtype))) {}

Ghost Ledger::make(int64_t c, int64_t t, int64_t h, int64_t w) {
  const int64_t bytes = c * t * h * w * element_size_;
  live_ += bytes;
  peak_ = std::max(peak_, live_);
  const auto free = [this](const int64_t* p) {
    live_ -= *p;
    delete p;
  };
  return {{new int64_t(bytes), free}, c, t, h, w};
}

// The library's own part. Input and output in its layout, then the output in ours: oneDNN frees its input
// before that, cuDNN's two are one workspace. LibTorch's path for small fp32 inputs on the CPU: the input
// unfolded once per tap of the kernel. It takes that path where the first four dimensions [N, C, T, H] of a
// volume, [N, C, H, W] of a picture, have at most 20480 elements.
Ghost Ledger::convolve(const Ghost& x, int64_t out, const Kernel& kernel, bool volume) {
  constexpr int64_t kSmall = 20480;
  const int64_t grown = 2 * kernel.padding - (kernel.places - 1);
  const int64_t frames = x.t - (kernel.frames - 1), h = x.h + grown, w = x.w + grown;
  if (unfolds_small_ && x.c * x.h * (volume ? x.t : x.w) <= kSmall) {
    const Ghost result = make(out, frames, h, w);
    make(x.c * kernel.frames * kernel.places * kernel.places, frames, h, w);
    return result;
  }
  Ghost reordered = like(x);
  const Ghost result = make(out, frames, h, w);
  if (on_cpu_) reordered = {};
  return like(result);
}

Ghost Ledger::conv2d(const Ghost& frame, int64_t out) {
  return convolve(frame, out, {1, 3, 1}, false);
}

Ghost Ledger::conv3d(const Ghost& x, int64_t out, const Kernel& kernel) {
  const int64_t lost = kernel.frames - 1, frames = x.t - lost, parts = conv_parts(x.numel());
  if (parts == 1) return convolve(x, out, kernel, true);
  const int64_t step = (frames + parts - 1) / parts;
  Ghost y;
  for (int64_t t = 0; t < frames; t += step) {
    const int64_t n = std::min(step, frames - t);
    const Ghost part = convolve(make(x.c, n + lost, x.h, x.w), out, kernel, true);
    if (!y.bytes) y = make(out, frames, part.h, part.w);
  }
  return y;
}

Ghost decode_tiles(Ledger& ledger, const TileAxis& rows, const TileAxis& columns,
                   std::pair<int64_t, int64_t> size,
                   const std::function<Ghost(int64_t h, int64_t w)>& decode) {
  const auto [h, w] = size;
  Ghost out;
  std::vector<Ghost> above(columns.count(w));
  for (int64_t i = 0; i < rows.count(h); ++i) {
    Ghost left;
    for (int64_t j = 0; j < columns.count(w); ++j) {
      const Ghost tile = decode(rows.length(h, i), columns.length(w, j));
      if (i + 1 < rows.count(h)) above[j] = ledger.make(tile.c, tile.t, std::min(tile.h, rows.blend), tile.w);
      if (j + 1 < columns.count(w))
        left = ledger.make(tile.c, tile.t, tile.h, std::min(tile.w, columns.blend));
      if (!out.bytes) out = ledger.make(tile.c, tile.t, rows.output(h), columns.output(w));
    }
  }
  return out;
}

}  // namespace sagelab
