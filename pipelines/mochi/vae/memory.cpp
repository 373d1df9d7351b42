// SPDX-License-Identifier: Apache-2.0
// The decoder once more, with sizes in place of tensors: what decoder.cpp and net.cpp allocate and free, in
// the same order.
#include <algorithm>
#include <utility>

#include "pipelines/mochi/vae/net.h"
#include "pipelines/video/ledger.h"

namespace sagelab::mochi {
namespace {

// One chunk's walk through the decoder; slots are counted as its constructors do.
class Walk {
 public:
  Walk(Ledger& ledger, const VaeConfig& config, std::vector<Ghost>& caches, const Pass& pass)
      : ledger_(ledger), config_(config), caches_(caches), pass_(pass) {}

  Ghost decoder(const Ghost& z) {
    const auto& widths = config_.block_out_channels;
    Ghost x = ledger_.conv3d(z, widths.back(), {});
    x = resnets(std::move(x), config_.layers_per_block.back());
    for (size_t from = widths.size() - 1; from > 0; --from) {
      x = resnets(std::move(x), config_.layers_per_block[from]);
      x = unpatchify(x, widths[from - 1], config_.temporal_expansions[from - 1],
                     config_.spatial_expansions[from - 1]);
    }
    x = resnets(std::move(x), config_.layers_per_block.front());
    const Ghost out = ledger_.make(config_.out_channels, x.t - pass_.skipped, x.h, x.w);
    const Ghost activated = frame(x);
    ledger_.make(config_.out_channels, 1, x.h, x.w);
    return out;
  }

 private:
  Ghost frame(const Ghost& x) { return ledger_.make(x.c, 1, x.h, x.w); }

  Ghost normed(const Ghost& x) {
    constexpr int64_t kBoth = 2 * kMarginPlaces;
    Ghost out = ledger_.make(x.c, x.t + kMarginFrames, x.h + kBoth, x.w + kBoth);
    const Ghost contiguous = x.t > 1 ? frame(x) : Ghost{};
    frame(x);
    return out;
  }

  Ghost conv(const Ghost& padded) {
    if (caches_.size() <= slot_) caches_.resize(slot_ + 1);
    Ghost& cache = caches_[slot_++];
    cache = {};
    if (!pass_.last) cache = ledger_.make(padded.c, kMarginFrames, padded.h, padded.w);
    return ledger_.conv3d(padded, padded.c, {3, 3, 0});
  }

  Ghost resnets(Ghost x, int64_t count) {
    for (int64_t j = 0; j < count; ++j) {
      Ghost y = conv(normed(x));
      const Ghost second = normed(y);
      y = {};
      x = conv(second);
    }
    return x;
  }

  Ghost unpatchify(const Ghost& x, int64_t channels, int64_t st, int64_t side) {
    Ghost out = ledger_.make(channels, x.t * st, x.h * side, x.w * side);
    ledger_.make(channels * st * side * side, 1, x.h, x.w);
    return out;
  }

  Ledger& ledger_;
  const VaeConfig& config_;
  std::vector<Ghost>& caches_;
  const Pass& pass_;
  size_t slot_ = 0;
};

Ghost decode_tile(Ledger& ledger, const VaeConfig& config, const Decoding& decoding, int64_t h, int64_t w) {
  const int64_t ratio = config.temporal_compression();
  const int64_t skipped = decoding.drop_last_temporal_frames ? ratio - 1 : 0;
  std::vector<Ghost> caches;
  Ghost out;
  for (int64_t t = 0; t < decoding.frames; t += kChunk) {
    const int64_t n = std::min(kChunk, decoding.frames - t);
    const bool last = t + n == decoding.frames;
    const Pass pass{nullptr, last, t == 0 ? skipped : 0, nullptr};
    const Ghost result =
        Walk(ledger, config, caches, pass).decoder(ledger.make(config.latent_channels, n, h, w));
    if (last && t == 0) return result;
    if (!out.bytes) out = ledger.make(result.c, decoding.frames * ratio - skipped, result.h, result.w);
  }
  return out;
}

}  // namespace

int64_t decode_peak_bytes(const VaeConfig& config, const Decoding& decoding, const Target& target) {
  Ledger ledger(target);
  const int64_t h = decoding.height, w = decoding.width;
  const auto decode = [&](int64_t height, int64_t width) {
    return decode_tile(ledger, config, decoding, height, width);
  };
  TilePlan plan;
  if (decoding.tiled) plan = tile_plan(config, decoding.tile_sizes);
  if (decoding.tiled && needs_tiles(plan, h, w)) {
    decode_tiles(ledger, plan.rows, plan.columns, {h, w}, decode);
  } else {
    decode(h, w);
  }
  return ledger.peak();
}

}  // namespace sagelab::mochi
