// SPDX-License-Identifier: Apache-2.0
#include "app/gui/tasks/machine_speed.h"

#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <vector>

namespace sagelab::gui {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kMostWidth = 1024;  // of the products: wider ones are no faster
constexpr int64_t kLeastWidth = 64;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The best of what some milliseconds hold: others on the machine only make it slower.
template <typename Product>
double best_seconds(const Product& product) {
  constexpr double kLong = .06;
  constexpr int kLeast = 4;
  const auto start = Clock::now();
  double best = INFINITY;
  for (int i = 0; i < kLeast || seconds_since(start) < kLong; ++i) {
    const auto begun = Clock::now();
    product();
    best = std::min(best, seconds_since(begun));
  }
  return best;
}

double flops_of(int64_t rows, int64_t width) {
  return 2. * double(rows) * double(width) * double(width);
}

// Each thread alone, all at once: a product that they share would wait for the one that others keep from
// its core.
double cpu_rate(at::ScalarType dtype, int64_t width) {
  constexpr int64_t kRows = 128;
  std::vector<double> rates(size_t(std::max(at::get_num_threads(), 1)));
  at::parallel_for(0, int64_t(rates.size()), 1, [&](int64_t begin, int64_t end) {
    const c10::InferenceMode inference;
    for (int64_t i = begin; i < end; ++i) {
      const auto a = at::ones({kRows, width}, dtype), b = at::ones({width, width}, dtype);
      auto out = at::empty({kRows, width}, dtype);
      rates[size_t(i)] = flops_of(kRows, width) / best_seconds([&] { at::mm_out(out, a, b); });
    }
  });
  return std::accumulate(rates.begin(), rates.end(), 0.);
}

double device_rate(const at::Device& device, at::ScalarType dtype, int64_t width) {
  constexpr int64_t kRows = 4096;
  const c10::InferenceMode inference;
  const auto options = at::TensorOptions(device).dtype(dtype);
  const auto a = at::ones({kRows, width}, options), b = at::ones({width, width}, options);
  auto out = at::empty({kRows, width}, options);
  const auto product = [&] {
    at::mm_out(out, a, b);
    at::accelerator::synchronizeDevice(device.index());
  };
  product();  // loads the library
  return flops_of(kRows, width) / best_seconds(product);
}

}  // namespace

double MachineSpeed::seconds_per_flop(const Target& target, int64_t width) {
  const auto device = target.device;
  const auto dtype = target.dtype;
  // Of norms, attention and all that is no matrix product a model pays as well: of transformers that ran on
  // both, about this share is left.
  constexpr double kShare = .35;
  width = std::clamp(width, kLeastWidth, kMostWidth);
  const std::lock_guard lock(mutex_);
  const auto [at, fresh] = known_.try_emplace({device.str(), dtype, width}, NAN);
  if (fresh) {
    try {
      at->second =
          1 / (kShare * (device.is_cpu() ? cpu_rate(dtype, width) : device_rate(device, dtype, width)));
    } catch (const c10::Error&) {
      // Its memory is taken, say: nothing tells.
    }
  }
  return at->second;
}

}  // namespace sagelab::gui
