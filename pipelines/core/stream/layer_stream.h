// SPDX-License-Identifier: Apache-2.0
// A model whose blocks stay in host memory: each is copied to the device while the one before it computes.
//
// Note [Streamed blocks]
// Two slots on the device, as large as the largest block, take turns. A block's tensors are views into its
// slot, fixed when it is made: even layers lie in one, odd layers in the other. So a model computes with
// them as with any others, and moving a block is one copy of its bytes from pinned memory. The copies have a
// stream of their own. Events order it all: a slot is written once the block that used it is finished, and
// read once the copy is done.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "pipelines/core/weights.h"

namespace sagelab {

class LayerStream {
 public:
  // Makes a layer of weights and keeps it in its place. May be called twice: at first to see its sizes.
  using Make = std::function<void(const Weights& w, int64_t layer)>;
  // Makes every layer. Null, and each is made of w itself, where w's target keeps everything on the device.
  // Throws sagelab::Error where host memory or the device have no room.
  static std::unique_ptr<LayerStream> make(const Weights& w, int64_t layers, const Make& make);
  ~LayerStream();  // waits for what was queued
  LayerStream(const LayerStream&) = delete;
  LayerStream& operator=(const LayerStream&) = delete;

  // One forward on the current stream, of one thread at a time. stream may be null: nothing happens then.
  class Pass {
   public:
    explicit Pass(LayerStream* stream) : stream_(stream) {}
    ~Pass();  // also where a forward is given up
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    // The layer entered before is finished, as far as this thread has queued it, and this one's weights are
    // there for what is queued from now on. Layers may be left out.
    void enter(int64_t layer);

   private:
    LayerStream* stream_;
    int64_t layer_ = -1;
  };

  int64_t copies() const { return copies_made_; }  // of blocks, so far

 private:
  struct Slot {
    at::Tensor bytes;   // on the device
    int64_t held = -1;  // the layer whose weights are there, or on their way
    std::optional<c10::Event> loaded, finished;
  };
  LayerStream(at::Device device, std::vector<int64_t> sizes);
  Slot& slot_of(int64_t layer) { return slots_[size_t(layer % 2)]; }
  void bring(int64_t layer);  // where it is not there
  void use(int64_t layer);
  void leave(int64_t layer);

  at::Device device_;
  std::vector<at::Tensor> blocks_;  // bytes in host memory, pinned where the device is a GPU
  std::array<Slot, 2> slots_;
  std::optional<c10::Stream> copying_;  // none on a CPU, where a copy is done when it returns
  int64_t copies_made_ = 0;
};

}  // namespace sagelab
