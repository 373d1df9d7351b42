// SPDX-License-Identifier: Apache-2.0
#include "pipelines/footprint.h"

#include <ATen/DeviceAccelerator.h>
#include <c10/core/CPUAllocator.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#include "pipelines/core/memory.h"

namespace sagelab {
namespace {

class CountingAllocator final : public c10::Allocator {
 public:
  explicit CountingAllocator(c10::Allocator* inner) : inner_(inner), free_(inner->raw_deleter()) {}

  c10::DataPtr allocate(size_t n) override {
    c10::DataPtr data = inner_->allocate(n);
    void* const pointer = data.get();
    if (!pointer) return data;
    data.release_context();
    add(int64_t(malloc_usable_size(pointer)));
    return {pointer, pointer, &release, data.device()};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t n) const override { inner_->copy_data(to, from, n); }

  static CountingAllocator* installed() { return installed_; }
  static void install() {
    static std::once_flag once;
    std::call_once(once, [] {
      installed_ = new CountingAllocator(c10::GetCPUAllocator());  // lives as long as the last tensor
      c10::SetCPUAllocator(installed_);
    });
  }
  int64_t now() const { return now_; }
  int64_t peak() const { return peak_; }
  void reset() { peak_ = now_.load(); }

 private:
  void add(int64_t bytes) {
    const int64_t now = now_ += bytes;
    for (int64_t peak = peak_; now > peak && !peak_.compare_exchange_weak(peak, now);) {
    }
  }
  static void release(void* pointer) {
    if (!pointer) return;
    installed_->now_ -= int64_t(malloc_usable_size(pointer));
    installed_->free_(pointer);
  }

  static inline CountingAllocator* installed_ = nullptr;
  c10::Allocator* inner_;
  c10::DeleterFnPtr free_;
  std::atomic<int64_t> now_ = 0, peak_ = 0;
};

c10::DeviceIndex index_of(const at::Device& device) {
  return std::max<c10::DeviceIndex>(device.index(), 0);
}

const at::CachingAllocator::Stat allocated(const at::Device& device) {
  constexpr size_t kAll = static_cast<size_t>(at::CachingAllocator::StatType::AGGREGATE);
  return at::getDeviceAllocator(device.type())->getDeviceStats(index_of(device)).allocated_bytes[kAll];
}

}  // namespace

void count_cpu_tensors() {
  CountingAllocator::install();
}

int64_t tensor_bytes(const at::Device& device) {
  if (!device.is_cpu()) return allocated(device).current;
  return CountingAllocator::installed() ? CountingAllocator::installed()->now() : 0;
}

int64_t peak_tensor_bytes(const at::Device& device) {
  if (!device.is_cpu()) return allocated(device).peak;
  return CountingAllocator::installed() ? CountingAllocator::installed()->peak() : 0;
}

void reset_tensor_peak(const at::Device& device) {
  if (!device.is_cpu())
    at::getDeviceAllocator(device.type())->resetPeakStats(index_of(device));
  else if (CountingAllocator::installed())
    CountingAllocator::installed()->reset();
}

int64_t memory_for_tensors(const at::Device& device) {
  return available_memory(device) + tensor_bytes(device);
}

}  // namespace sagelab
