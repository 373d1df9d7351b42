// SPDX-License-Identifier: Apache-2.0
// The decoder once more, with sizes in place of tensors: what decoder.cpp allocates and frees, in the same
// order.
#include <algorithm>

#include "pipelines/common/autoencoder/mid_attention.h"
#include "pipelines/hunyuanvideo/vae/decoder.h"
#include "pipelines/video/causal_conv.h"
#include "pipelines/video/ledger.h"

namespace sagelab::hunyuanvideo {
namespace {

class Walk {
 public:
  Walk(Ledger& ledger, const VaeConfig& config) : ledger_(ledger), config_(config) {}

  Ghost decode_tile(int64_t frames, int64_t h, int64_t w) {
    const auto& widths = config_.block_out_channels;
    Ghost x = ledger_.make(config_.latent_channels, frames, h, w);
    x = ledger_.conv3d(x, config_.latent_channels, {});
    x = conv(padded(x.c, x.t, x.h, x.w), widths.back());
    x = resnet(std::move(x), widths.back());
    if (config_.mid_block_add_attention) x = attention(x);
    x = resnet(std::move(x), widths.back());
    for (size_t i = 0; i < widths.size(); ++i) {
      const int64_t out = widths[widths.size() - 1 - i];
      for (int64_t j = 0; j <= config_.layers_per_block; ++j) x = resnet(std::move(x), out);
      const auto [time, space] = config_.upsampling(int64_t(i));
      if (time * space > 1) {
        const Ghost enlarged = padded(x.c, 1 + (x.t - 1) * time, x.h * space, x.w * space);
        x = {};
        x = conv(enlarged, out);
      }
    }
    x = ledger_.like(x);
    x = padded(x.c, x.t, x.h, x.w);
    return conv(x, config_.out_channels);
  }

 private:
  Ghost padded(int64_t c, int64_t t, int64_t h, int64_t w) {
    return ledger_.make(c, t + kMarginFrames, h + 2 * kMarginPlaces, w + 2 * kMarginPlaces);
  }

  Ghost conv(const Ghost& input, int64_t out) { return ledger_.conv3d(input, out, {3, 3, 0}); }

  Ghost normed(Ghost x) {
    const Ghost y = ledger_.like(x);
    x = {};
    const Ghost activated = config_.activation == Activation::Silu ? Ghost{} : ledger_.like(y);
    return padded(y.c, y.t, y.h, y.w);
  }

  Ghost resnet(Ghost x, int64_t out) {
    const Ghost residual = x.c == out ? x : ledger_.conv3d(x, out, {});
    Ghost y = conv(normed(std::move(x)), out);
    return conv(normed(std::move(y)), out);
  }

  Ghost attention(const Ghost& x) {
    const auto rows = [&] { return ledger_.like(x); };
    Ghost y = rows();
    {
      const Ghost q = rows(), k = rows(), v = rows();
      const Ghost frame = ledger_.make(x.c, 1, x.h, x.w);
      y = x.t > 1 ? rows() : frame;
    }
    y = rows();
    y = rows();
    return rows();
  }

  Ledger& ledger_;
  const VaeConfig& config_;
};

}  // namespace

int64_t decode_peak_bytes(const VaeConfig& config, const Decoding& decoding, const Target& target) {
  const int64_t frames = decoding.frames, height = decoding.height, width = decoding.width;
  const TilePlan plan = tile_plan(config, {});
  Ledger ledger(target);
  Walk walk(ledger, config);
  const auto decode_part = [&](int64_t latents) {
    const auto tile = [&](int64_t h, int64_t w) { return walk.decode_tile(latents, h, w); };
    return decoding.tiled && plan.cuts_space(height, width)
               ? decode_tiles(ledger, plan.rows, plan.columns, {height, width}, tile)
               : tile(height, width);
  };
  if (!plan.cuts_time(frames)) {
    decode_part(frames);
    return ledger.peak();
  }
  Ghost out, before;
  for (int64_t i = 0; i < plan.count_time(frames); ++i) {
    const Ghost tile = decode_part(plan.length_time(frames, i));
    before = ledger.make(tile.c, std::min(tile.t, plan.frames.blend), tile.h, tile.w);
    if (!out.bytes) out = ledger.make(tile.c, config.frames_of(frames), tile.h, tile.w);
  }
  return ledger.peak();
}

}  // namespace sagelab::hunyuanvideo
