// SPDX-License-Identifier: Apache-2.0
// A model of blocks as different in size as blocks can be, on the device or streamed to it.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "pipelines/core/checkpoint/source.h"
#include "pipelines/core/stream/layer_stream.h"
#include "pipelines/core/weights.h"

namespace sagelab::testing {

class Chain {
 public:
  struct Block {
    Linear in, out;
  };
  // Layers have widths of their own: wide + 16 * layer.
  Chain(const Weights& w, int64_t layers, int64_t dim, int64_t wide) : blocks_(size_t(layers)) {
    ends_ = w.linear("ends", dim, dim);
    stream_ = LayerStream::make(w, layers, [&](const Weights& from, int64_t layer) {
      const Weights block = from / "blocks" / layer;
      const int64_t width = wide + 16 * layer;
      blocks_[size_t(layer)] = {block.linear("in", width, dim), block.linear("out", dim, width)};
    });
  }

  // observe: after each layer, while its weights are there.
  at::Tensor operator()(at::Tensor x, const std::function<void(int64_t layer)>& observe = {},
                        const std::vector<int64_t>& skip = {}) const {
    x = ends_(x);
    {
      LayerStream::Pass pass(stream_.get());
      for (int64_t layer = 0; layer < int64_t(blocks_.size()); ++layer) {
        if (std::find(skip.begin(), skip.end(), layer) != skip.end()) continue;
        pass.enter(layer);
        const Block& block = blocks_[size_t(layer)];
        x = x + block.out(block.in(x).tanh());
        if (observe) observe(layer);
      }
    }
    return ends_(x);
  }

  const Block& block(int64_t layer) const { return blocks_[size_t(layer)]; }
  const LayerStream* stream() const { return stream_.get(); }

 private:
  Linear ends_;
  std::vector<Block> blocks_;
  std::unique_ptr<LayerStream> stream_;
};

// The same values on every device: a GPU draws others than a CPU.
class DrawnOnTheHost final : public WeightSource {
 public:
  std::string where(const std::string& key) const override { return source_->where(key); }
  bool has(const std::string& key) const override { return source_->has(key); }
  std::optional<std::vector<int64_t>> shape(const std::string& key) const override {
    return source_->shape(key);
  }
  void fill(const std::string& key, const at::Tensor& out) override {
    const at::Tensor values = at::empty(out.sizes(), out.options().device(at::kCPU));
    source_->fill(key, values);
    out.copy_(values);
  }

 private:
  std::shared_ptr<WeightSource> source_ = random_source(7);
};

inline Chain chain_of(int64_t layers, const Target& target, int64_t dim = 32, int64_t wide = 48) {
  const Weights w(std::make_shared<DrawnOnTheHost>(), target);
  Chain chain(w, layers, dim, wide);
  w.require_all_read();
  return chain;
}

inline at::Tensor input_of(const Target& target, int64_t rows = 5, int64_t dim = 32) {
  at::manual_seed(3);
  return at::randn({1, rows, dim}).to(target.device, target.dtype);
}

}  // namespace sagelab::testing
