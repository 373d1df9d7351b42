// SPDX-License-Identifier: Apache-2.0
// Memory of a decoder as it would be, from sizes in place of tensors. Left out: statistics of the
// norms, the strips that blending works on, and what the libraries take beyond layouts of their own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "pipelines/core/tiling.h"
#include "pipelines/core/weights.h"

namespace sagelab {

// Stands for a tensor [1, c, t, h, w]: copies share its storage, the last one frees it.
struct Ghost {
  std::shared_ptr<const int64_t> bytes;
  int64_t c = 0, t = 0, h = 0, w = 0;
  int64_t numel() const { return c * t * h * w; }
};

class Ledger {
 public:
  explicit Ledger(const Target& target);
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  Ghost make(int64_t c, int64_t t, int64_t h, int64_t w);
  Ghost like(const Ghost& x) { return make(x.c, x.t, x.h, x.w); }
  int64_t peak() const { return peak_; }

  // padding: of height and width, as conv3d's.
  struct Kernel {
    int64_t frames = 1, places = 1, padding = 0;
  };
  // What conv3d allocates.
  Ghost conv3d(const Ghost& x, int64_t out, const Kernel& kernel);
  // What a 3x3 convolution that keeps the size does with one frame.
  Ghost conv2d(const Ghost& frame, int64_t out);

 private:
  Ghost convolve(const Ghost& x, int64_t out, const Kernel& kernel, bool volume);

  bool on_cpu_, unfolds_small_;
  int64_t element_size_, live_ = 0, peak_ = 0;
};

// decode_tiles of pipelines/core/tiling.h for latents of size (h, w): what it returns. decode is told a
// tile's latents.
Ghost decode_tiles(Ledger& ledger, const TileAxis& rows, const TileAxis& columns,
                   std::pair<int64_t, int64_t> size,
                   const std::function<Ghost(int64_t h, int64_t w)>& decode);

}  // namespace sagelab
