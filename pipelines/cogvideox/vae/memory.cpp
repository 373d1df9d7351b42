// SPDX-License-Identifier: Apache-2.0
// The decoder once more, with sizes in place of tensors: what decoder.cpp allocates and frees, in the same
// order.
#include "pipelines/cogvideox/vae/chunks.h"
#include "pipelines/cogvideox/vae/decoder.h"
#include "pipelines/video/ledger.h"

namespace sagelab::cogvideox {
namespace {

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
  Ghost conv(Ghost padded, int64_t out) {
    if (caches_.size() <= slot_) caches_.resize(slot_ + 1);
    Ghost& cache = caches_[slot_++];
    cache = {};
    if (!last_) cache = ledger_.make(padded.c, kLead, padded.h, padded.w);
    return ledger_.conv3d(padded, out, {3, 3, 1});
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
    const Ghost residual = x.c == out ? x : ledger_.conv3d(x, out, {});
    Ghost y = conv(norm(std::move(x)), out);
    return conv(norm(std::move(y)), out);
  }

  Ghost upsample(Ghost x, bool doubles_time) {
    Ghost out = ledger_.make(x.c, doubles_time ? doubled_frames(x.t) : x.t, 2 * x.h, 2 * x.w);
    ledger_.conv2d(ledger_.make(x.c, 1, 2 * x.h, 2 * x.w), x.c);  // frame by frame
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

}  // namespace

int64_t decode_peak_bytes(const VaeConfig& config, const Decoding& decoding, const Target& target) {
  const int64_t frames = decoding.frames, h = decoding.height, w = decoding.width;
  const bool tiled = decoding.tiled;
  Ledger ledger(target);
  const auto decode = [&](int64_t height, int64_t width) {
    return decode_tile(ledger, config, frames, height, width);
  };
  TilePlan plan;
  if (tiled) plan = tile_plan(config);
  if (tiled && needs_tiles(plan, h, w)) {
    decode_tiles(ledger, plan.rows, plan.columns, {h, w}, decode);
  } else {
    decode(h, w);
  }
  return ledger.peak();
}

}  // namespace sagelab::cogvideox
