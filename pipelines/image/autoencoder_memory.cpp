// SPDX-License-Identifier: Apache-2.0
// The decoder once more, with sizes in place of tensors: what autoencoder_kl.cpp allocates and frees, in the
// same order. Left out: oneDNN's workspaces, and the strips that blending works on.
#include <ATen/cpu/Utils.h>

#include <algorithm>

#include "pipelines/image/autoencoder_kl.h"

namespace sagelab {
namespace {

// Stands for a tensor [1, c, h, w]: copies share its storage, the last one frees it.
struct Ghost {
  std::shared_ptr<const int64_t> bytes;
  int64_t c = 0, h = 0, w = 0;
};

constexpr int64_t kNarrowBlock = 8, kWideBlock = 16;  // of channels, without AVX-512 and with it

int64_t block_of_this_cpu() {
  const auto capabilities = at::cpu::get_cpu_capabilities();
  const auto wide = capabilities.find("avx512_f");
  return wide != capabilities.end() && wide->second.toBool() ? kWideBlock : kNarrowBlock;
}

class Walk {
 public:
  Walk(const AutoencoderKLConfig& config, const Target& target)
      : config_(config),
        element_size_(int64_t(c10::elementSize(target.dtype))),
        on_cpu_(target.device.is_cpu()),
        block_(on_cpu_ ? block_of_this_cpu() : 1),
        fp32_on_cpu_(target.device.is_cpu() && target.dtype == at::kFloat) {}

  Ghost make(int64_t c, int64_t h, int64_t w) {
    const int64_t bytes = c * h * w * element_size_;
    live_ += bytes;
    peak_ = std::max(peak_, live_);
    const auto free = [this](const int64_t* p) {
      live_ -= *p;
      delete p;
    };
    return {{new int64_t(bytes), free}, c, h, w};
  }

  Ghost decode_tile(int64_t h, int64_t w) {
    const auto& widths = config_.block_out_channels;
    Ghost x = make(config_.latent_channels, h, w);
    if (config_.use_post_quant_conv) x = convolve(x, config_.latent_channels, 1);
    x = convolve(x, widths.back(), 9);
    x = resnet(std::move(x), widths.back());
    if (config_.mid_block_add_attention) x = attention(x);
    x = resnet(std::move(x), widths.back());
    for (size_t i = 0; i < widths.size(); ++i) {
      const int64_t out = widths[widths.size() - 1 - i];
      for (int64_t j = 0; j <= config_.layers_per_block; ++j) x = resnet(std::move(x), out);
      if (i + 1 < widths.size()) x = convolve(make(out, 2 * x.h, 2 * x.w), out, 9);
    }
    x = make(x.c, x.h, x.w);
    return convolve(x, config_.out_channels, 9);
  }

  Ghost decode_tiles(int64_t h, int64_t w) {
    const TileAxis axis = config_.tile_axis();
    Ghost out;
    std::vector<Ghost> above(axis.count(w));
    for (int64_t i = 0; i < axis.count(h); ++i) {
      Ghost left;
      for (int64_t j = 0; j < axis.count(w); ++j) {
        const Ghost tile = decode_tile(axis.length(h, i), axis.length(w, j));
        if (i + 1 < axis.count(h)) above[j] = make(tile.c, std::min(tile.h, axis.blend), tile.w);
        if (j + 1 < axis.count(w)) left = make(tile.c, tile.h, std::min(tile.w, axis.blend));
        if (!out.bytes) out = make(tile.c, axis.output(h), axis.output(w));
      }
    }
    return out;
  }

  int64_t peak() const { return peak_; }

 private:
  // The library's own part. Input and output in its layout, then the output in ours: oneDNN frees its input
  // before that, cuDNN's two are one workspace. oneDNN's layout has channels in blocks, but fewer than one
  // are read as they are; with one tap it reads and writes ours in fp32, and has the sums in fp32 besides
  // where that is not the dtype. LibTorch's path for small fp32 inputs on the CPU, and in half precision
  // without AVX-512: the input unfolded once per tap.
  Ghost convolve(const Ghost& x, int64_t out, int64_t taps) {
    constexpr int64_t kSmall = 20480;
    if (fp32_on_cpu_ ? x.c * x.h * x.w <= kSmall : block_ == kNarrowBlock) {
      const Ghost result = make(out, x.h, x.w);
      if (taps > 1) make(x.c * taps, x.h, x.w);
      return result;
    }
    if (fp32_on_cpu_ && taps == 1) return make(out, x.h, x.w);
    const auto blocks = [&](int64_t c) { return (c + block_ - 1) / block_ * block_; };
    const bool sums_apart = taps == 1 && block_ > 1;
    Ghost sums = sums_apart ? make(2 * blocks(out), x.h, x.w) : Ghost();
    Ghost reordered = x.c < block_ && !sums_apart ? Ghost() : make(blocks(x.c), x.h, x.w);
    const Ghost result = make(blocks(out), x.h, x.w);
    if (on_cpu_) sums = reordered = {};
    return make(out, x.h, x.w);
  }

  Ghost norm(const Ghost& x) {
    const Ghost y = make(x.c, x.h, x.w);
    return config_.activation == Activation::Silu ? y : make(x.c, x.h, x.w);
  }

  Ghost resnet(Ghost x, int64_t out) {
    const Ghost residual = x.c == out ? x : convolve(x, out, 1);
    Ghost y = norm(x);
    x = {};
    y = convolve(y, out, 9);
    y = norm(y);
    return convolve(y, out, 9);
  }

  Ghost attention(const Ghost& x) {
    const auto rows = [&] { return make(x.c, x.h, x.w); };
    Ghost y = rows();
    {
      const Ghost q = rows(), k = rows(), v = rows();
      y = rows();
    }
    y = rows();
    y = rows();
    return rows();
  }

  const AutoencoderKLConfig& config_;
  const int64_t element_size_;
  const bool on_cpu_;
  const int64_t block_;
  const bool fp32_on_cpu_;
  int64_t live_ = 0, peak_ = 0;
};

}  // namespace

int64_t decode_peak_bytes(const AutoencoderKLConfig& config, const PictureDecoding& decoding,
                          const Target& target) {
  const auto& [pictures, h, w, tiled] = decoding;
  Walk walk(config, target);
  std::vector<Ghost> finished;
  for (int64_t i = 0; i < pictures; ++i)
    finished.push_back(tiled && config.needs_tiles(h, w) ? walk.decode_tiles(h, w) : walk.decode_tile(h, w));
  if (pictures > 1) walk.make(pictures * finished[0].c, finished[0].h, finished[0].w);
  return walk.peak();
}

}  // namespace sagelab
