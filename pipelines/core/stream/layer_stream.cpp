// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/stream/layer_stream.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "attention/error.h"
#include "pipelines/core/memory.h"
#include "pipelines/core/stream/host_memory.h"

namespace sagelab {
namespace {

constexpr int64_t kAlignment = 512;  // as LibTorch's own allocator has it on a GPU

// Where the tensors of a block lie, one after the other.
struct Layout {
  int64_t size = 0;
  int64_t add(at::IntArrayRef shape, at::ScalarType dtype) {
    const int64_t begin = size;
    const int64_t bytes = c10::multiply_integers(shape) * int64_t(c10::elementSize(dtype));
    size += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return begin;
  }
};

class Measure final : public Placement {
 public:
  Place place(at::IntArrayRef shape, at::ScalarType dtype) override {
    layout_.add(shape, dtype);
    return {at::empty(shape, at::TensorOptions(dtype).device(at::kMeta)), {}};
  }
  int64_t size() const { return layout_.size; }

 private:
  Layout layout_;
};

// The model's tensors in a slot, what they are read to in the block's own bytes.
class Views final : public Placement {
 public:
  Views(at::Tensor slot, at::Tensor block) : slot_(std::move(slot)), block_(std::move(block)) {}
  Place place(at::IntArrayRef shape, at::ScalarType dtype) override {
    const int64_t begin = layout_.add(shape, dtype);
    const int64_t bytes = c10::multiply_integers(shape) * int64_t(c10::elementSize(dtype));
    const auto view = [&](const at::Tensor& all) {
      return all.narrow(0, begin, bytes).view(dtype).view(shape);
    };
    return {view(slot_), view(block_)};
  }

 private:
  Layout layout_;
  at::Tensor slot_, block_;
};

c10::Stream current_stream(at::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

void require_host_memory(int64_t bytes) {
  const int64_t there = available_memory(at::kCPU);
  if (bytes > there)
    throw Error(fmt::format("out of memory: the model's blocks take {} of host memory, and {} are free",
                            human_bytes(bytes), human_bytes(there)),
                "free memory, or use --offload encoders or a smaller --dtype");
}

}  // namespace

std::unique_ptr<LayerStream> LayerStream::make(const Weights& w, int64_t layers, const Make& make) {
  if (!w.target().streamed) {
    for (int64_t layer = 0; layer < layers; ++layer) make(w, layer);
    return nullptr;
  }
  std::vector<int64_t> sizes;
  for (int64_t layer = 0; layer < layers; ++layer) {
    const auto measure = std::make_shared<Measure>();
    make(w.placed(measure), layer);
    sizes.push_back(measure->size());
  }
  const int64_t largest = sizes.empty() ? 0 : *std::max_element(sizes.begin(), sizes.end());
  w.count(std::min<int64_t>(2, layers) * largest);
  if (w.target().device.is_meta()) return nullptr;
  std::unique_ptr<LayerStream> stream(new LayerStream(w.target().device, std::move(sizes)));
  for (int64_t layer = 0; layer < layers; ++layer)
    make(w.placed(std::make_shared<Views>(stream->slot_of(layer).bytes, stream->blocks_[size_t(layer)])),
         layer);
  return stream;
}

LayerStream::LayerStream(at::Device device, std::vector<int64_t> sizes) : device_(device) {
  const c10::DeviceGuard on_it(device);  // pinning memory wakes the current device
  require_host_memory(std::accumulate(sizes.begin(), sizes.end(), int64_t(0)));
  const int64_t largest = sizes.empty() ? 0 : *std::max_element(sizes.begin(), sizes.end());
  for (size_t i = 0; i < std::min(slots_.size(), sizes.size()); ++i)
    slots_[i].bytes = at::empty({largest}, at::TensorOptions(at::kByte).device(device));
  for (const int64_t size : sizes) blocks_.push_back(host_bytes(size, !device.is_cpu()));
  if (device.is_cpu()) return;
  copying_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
  for (Slot& slot : slots_) {
    slot.loaded.emplace(device.type());
    slot.finished.emplace(device.type());
    slot.finished->record(current_stream(device));  // what used this memory before us may still be queued
  }
}

LayerStream::~LayerStream() {
  if (!copying_) return;
  try {
    copying_->synchronize();
    // Slots go back to the stream that they were taken on; whatever stream computed with them is done.
    for (Slot& slot : slots_) slot.finished->synchronize();
  } catch (...) {  // the device failed; whoever uses it next will say so
  }
}

void LayerStream::bring(int64_t layer) {
  Slot& slot = slot_of(layer);
  if (slot.held == layer) return;
  const c10::InferenceMode inference;
  const at::Tensor& block = blocks_[size_t(layer)];
  const at::Tensor to = slot.bytes.narrow(0, 0, block.numel());
  slot.held = -1;
  if (copying_) {
    const c10::StreamGuard guard(*copying_);
    slot.finished->block(*copying_);
    to.copy_(block, /*non_blocking=*/true);
    slot.loaded->record(*copying_);
  } else {
    to.copy_(block);
  }
  slot.held = layer;
  ++copies_made_;
}

void LayerStream::use(int64_t layer) {
  TORCH_CHECK(layer >= 0 && layer < int64_t(blocks_.size()), "no layer ", layer, " among ", blocks_.size());
  bring(layer);
  if (copying_) slot_of(layer).loaded->block(current_stream(device_));
  if (layer + 1 < int64_t(blocks_.size())) bring(layer + 1);
}

// Its slot takes the layer that comes next there, in this forward or the one after it.
void LayerStream::leave(int64_t layer) {
  Slot& slot = slot_of(layer);
  if (copying_) slot.finished->record(current_stream(device_));
  const int64_t next = layer + 2 < int64_t(blocks_.size()) ? layer + 2 : layer % 2;
  bring(next);
}

LayerStream::Pass::~Pass() {
  if (!stream_ || layer_ < 0) return;
  try {
    stream_->leave(layer_);
  } catch (...) {  // the device failed; whoever uses it next will say so
  }
}

void LayerStream::Pass::enter(int64_t layer) {
  if (!stream_) return;
  if (layer_ >= 0) stream_->leave(layer_);
  layer_ = -1;
  stream_->use(layer);
  layer_ = layer;
}

}  // namespace sagelab
