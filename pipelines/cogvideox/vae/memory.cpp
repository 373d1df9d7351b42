// SPDX-License-Identifier: Apache-2.0
// The decoder once more, with sizes in place of tensors: what decoder.cpp allocates and frees, in the same
// order. Left out: workspaces of cuDNN and oneDNN, statistics of the norms, and the strips that blending
// works on.
#include "pipelines/cogvideox/vae/chunks.h"
#include "pipelines/cogvideox/vae/conv.h"
#include "pipelines/cogvideox/vae/decoder.h"

namespace sagelab::cogvideox {
namespace {

constexpr int64_t kLead = 2;  // Note [Padded once] in decoder.cpp

// Stands for a tensor [1, c, t, h, w]: copies share its storage, the last one frees it.
struct Ghost {
  std::shared_ptr<const int64_t> bytes;
  int64_t c = 0, t = 0, h = 0, w = 0;
  int64_t numel() const { return c * t * h * w; }
};

class Ledger {
 public:
  Ledger(int64_t element_size, bool unfolds) : unfolds_small(unfolds), element_size_(element_size) {}
  const bool unfolds_small;

  Ghost make(int64_t c, int64_t t, int64_t h, int64_t w) {
    const int64_t bytes = c * t * h * w * element_size_;
    live_ += bytes;
    peak_ = std::max(peak_, live_);
    return {{new int64_t(bytes),
             [this](const int64_t* p) {
               live_ -= *p;
               delete p;
             }},
            c,
            t,
            h,
            w};
  }
  int64_t peak() const { return peak_; }

 private:
  int64_t element_size_, live_ = 0, peak_ = 0;
};

// One chunk's walk through the decoder; slots are counted as its constructors do.
class Walk {
 public:
  Walk(Ledger& ledger, const VaeConfig& config, std::vector<Ghost>& caches, const Ghost& z, bool last)
      : ledger_(ledger), config_(config), caches_(caches), z_(z), last_(last) {}

  Ghost decoder() {
    const auto& widths = config_.block_out_channels;
    Ghost x = conv(ledger_.make(z_.c, z_.t + kLead, z_.h, z_.w), widths.back());
    for (int j = 0; j < 2; ++j) x = resnet(std::move(x), widths.back());
    for (size_t i = 0; i < widths.size(); ++i) {
      const int64_t out = widths[widths.size() - 1 - i];
      for (int64_t j = 0; j <= config_.layers_per_block; ++j) x = resnet(std::move(x), out);
      if (i + 1 < widths.size()) x = upsample(std::move(x), int64_t(i) < temporal_levels(config_));
    }
    return conv(norm(std::move(x)), config_.out_channels);
  }

 private:
  // The library's own part. oneDNN and cuDNN: input and output in their layout, then the output in ours.
  // LibTorch's path for small fp32 inputs on the CPU: the input unfolded once per tap of the kernel. It takes
  // that path where the first four dimensions [N, C, T, H] of a volume, [N, C, H, W] of a picture, have at
  // most 20480 elements.
  Ghost convolve(const Ghost& x, int64_t out, int64_t frames, int64_t taps, bool volume) {
    if (ledger_.unfolds_small && x.c * x.h * (volume ? x.t : x.w) <= 20480) {
      const Ghost result = ledger_.make(out, frames, x.h, x.w);
      ledger_.make(x.c * taps, frames, x.h, x.w);
      return result;
    }
    Ghost reordered = ledger_.make(x.c, x.t, x.h, x.w);
    const Ghost result = ledger_.make(out, frames, x.h, x.w);
    reordered = {};
    return ledger_.make(out, frames, x.h, x.w);
  }

  Ghost conv_frames(const Ghost& x, int64_t out, int64_t lost) {
    const int64_t frames = x.t - lost, parts = conv_parts(x.numel());
    const int64_t taps = lost == 0 ? 1 : 27;
    if (parts == 1) return convolve(x, out, frames, taps, true);
    const int64_t step = (frames + parts - 1) / parts;
    Ghost y;
    for (int64_t t = 0; t < frames; t += step) {
      const int64_t n = std::min(step, frames - t);
      const Ghost part = convolve(ledger_.make(x.c, n + lost, x.h, x.w), out, n, taps, true);
      if (!y.bytes) y = ledger_.make(out, frames, x.h, x.w);
    }
    return y;
  }

  Ghost conv(Ghost padded, int64_t out) {
    if (caches_.size() <= slot_) caches_.resize(slot_ + 1);
    Ghost& cache = caches_[slot_++];
    cache = {};
    if (!last_) cache = ledger_.make(padded.c, kLead, padded.h, padded.w);
    return conv_frames(padded, out, kLead);
  }

  Ghost latent_convolution(int64_t channels, int64_t frames) {
    const Ghost y = ledger_.make(channels, z_.t, z_.h, z_.w);
    return frames == z_.t ? y : ledger_.make(channels, frames, z_.h, z_.w);
  }

  Ghost norm(Ghost x) {
    const Ghost y = latent_convolution(x.c, x.t), b = latent_convolution(x.c, x.t);
    const Ghost normed = ledger_.make(x.c, x.t, x.h, x.w);
    x = {};
    Ghost padded = ledger_.make(normed.c, normed.t + kLead, normed.h, normed.w);
    if (config_.activation != Activation::Silu) ledger_.make(normed.c, normed.t, normed.h, normed.w);
    return padded;
  }

  Ghost resnet(Ghost x, int64_t out) {
    const Ghost residual = x.c == out ? x : conv_frames(x, out, 0);
    Ghost y = conv(norm(std::move(x)), out);
    return conv(norm(std::move(y)), out);
  }

  Ghost upsample(Ghost x, bool doubles_time) {
    Ghost out = ledger_.make(x.c, doubles_time ? doubled_frames(x.t) : x.t, 2 * x.h, 2 * x.w);
    convolve(ledger_.make(x.c, 1, 2 * x.h, 2 * x.w), x.c, 1, 9, false);  // frame by frame
    return out;
  }

  Ledger& ledger_;
  const VaeConfig& config_;
  std::vector<Ghost>& caches_;
  const Ghost& z_;
  const bool last_;
  size_t slot_ = 0;
};

Ghost decode_tile(Ledger& ledger, const VaeConfig& config, int64_t frames, int64_t h, int64_t w) {
  const std::vector<ChunkRange> chunks = chunk_ranges(frames);
  std::vector<Ghost> caches;
  Ghost out;
  for (const ChunkRange& chunk : chunks) {
    const Ghost z = ledger.make(config.latent_channels, chunk.end - chunk.begin, h, w);
    Ghost result = Walk(ledger, config, caches, z, chunk.end == frames).decoder();
    if (chunks.size() == 1) return result;
    if (!out.bytes) out = ledger.make(result.c, output_frames(config, chunks), result.h, result.w);
  }
  return out;
}

void decode_tiles(Ledger& ledger, const VaeConfig& config, int64_t frames, int64_t h, int64_t w) {
  const TilePlan plan = tile_plan(config);
  const TileAxis &rows = plan.rows, &columns = plan.columns;
  Ghost out;
  std::vector<Ghost> above(columns.count(w));
  for (int64_t i = 0; i < rows.count(h); ++i) {
    Ghost left;
    for (int64_t j = 0; j < columns.count(w); ++j) {
      const Ghost tile = decode_tile(ledger, config, frames, rows.length(h, i), columns.length(w, j));
      if (i + 1 < rows.count(h)) {
        above[j] = ledger.make(tile.c, tile.t, std::min(tile.h, rows.blend), tile.w);
      }
      if (j + 1 < columns.count(w)) {
        left = ledger.make(tile.c, tile.t, tile.h, std::min(tile.w, columns.blend));
      }
      if (!out.bytes) out = ledger.make(tile.c, tile.t, rows.output(h), columns.output(w));
    }
  }
}

}  // namespace

int64_t decode_peak_bytes(const VaeConfig& config, const Decoding& decoding, const Target& target) {
  const auto& [frames, h, w, tiled] = decoding;
  Ledger ledger(int64_t(c10::elementSize(target.dtype)),
                target.device.is_cpu() && target.dtype == at::kFloat);
  if (tiled && needs_tiles(tile_plan(config), h, w)) {
    decode_tiles(ledger, config, frames, h, w);
  } else {
    decode_tile(ledger, config, frames, h, w);
  }
  return ledger.peak();
}

}  // namespace sagelab::cogvideox
