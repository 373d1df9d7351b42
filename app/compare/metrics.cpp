// SPDX-License-Identifier: Apache-2.0
#include "app/compare/metrics.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <thread>

#include <fmt/format.h>

#include "attention/error.h"

namespace sagelab {
namespace {

constexpr int kRadius = 5, kTaps = 2 * kRadius + 1;
constexpr double kSigma = 1.5, kRange = 255;

std::array<double, kTaps> gaussian() {
  std::array<double, kTaps> weights{};
  for (int i = 0; i < kTaps; ++i) weights[size_t(i)] = std::exp(-0.5 * std::pow((i - kRadius) / kSigma, 2));
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& w : weights) w /= sum;
  return weights;
}

// One channel of a frame, or a product of two. [height, width]
struct Plane {
  int width, height;
  std::vector<double> values;
};

// Where the whole window fits: [height - 10, width - 10].
Plane smoothed(const Plane& in) {
  static const auto kWeights = gaussian();
  const int width = in.width - 2 * kRadius, height = in.height - 2 * kRadius;
  std::vector<double> rows(size_t(in.height) * width, 0.0);
  for (int y = 0; y < in.height; ++y)
    for (int k = 0; k < kTaps; ++k) {
      const double w = kWeights[size_t(k)];
      const double* from = in.values.data() + size_t(y) * in.width + k;
      double* to = rows.data() + size_t(y) * width;
      for (int x = 0; x < width; ++x) to[x] += w * from[x];
    }
  Plane out{width, height, std::vector<double>(size_t(height) * width, 0.0)};
  for (int y = 0; y < height; ++y)
    for (int k = 0; k < kTaps; ++k) {
      const double w = kWeights[size_t(k)];
      const double* from = rows.data() + size_t(y + k) * width;
      double* to = out.values.data() + size_t(y) * width;
      for (int x = 0; x < width; ++x) to[x] += w * from[x];
    }
  return out;
}

Plane channel_of(std::span<const uint8_t> rgb, FrameSize size, size_t channel) {
  Plane plane{size.width, size.height, std::vector<double>(rgb.size() / 3)};
  for (size_t i = 0; i < plane.values.size(); ++i) plane.values[i] = rgb[3 * i + channel];
  return plane;
}

Plane product(const Plane& a, const Plane& b) {
  Plane out = a;
  for (size_t i = 0; i < out.values.size(); ++i) out.values[i] *= b.values[i];
  return out;
}

double ssim_of(const Plane& x, const Plane& y) {
  constexpr double kC1 = (0.01 * kRange) * (0.01 * kRange), kC2 = (0.03 * kRange) * (0.03 * kRange);
  const Plane ux = smoothed(x), uy = smoothed(y), uxx = smoothed(product(x, x)),
              uyy = smoothed(product(y, y)), uxy = smoothed(product(x, y));
  double sum = 0;
  for (size_t i = 0; i < ux.values.size(); ++i) {
    const double mx = ux.values[i], my = uy.values[i];
    const double vx = uxx.values[i] - mx * mx, vy = uyy.values[i] - my * my, vxy = uxy.values[i] - mx * my;
    sum += (2 * mx * my + kC1) * (2 * vxy + kC2) / ((mx * mx + my * my + kC1) * (vx + vy + kC2));
  }
  return sum / double(ux.values.size());
}

// Calls body(0) ... body(count - 1), each once, on as many threads as there are cores.
template <typename F>
void side_by_side(int count, const F& body) {
  std::atomic<int> next = 0;
  const auto work = [&] {
    for (int i = next++; i < count; i = next++) body(i);
  };
  const int threads = std::min(count, int(std::max(1U, std::thread::hardware_concurrency())));
  std::vector<std::jthread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(work);
  work();
}

}  // namespace

double psnr(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  int64_t sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const int difference = int(a[i]) - int(b[i]);
    sum += int64_t(difference) * difference;
  }
  if (sum == 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(kRange * kRange / (double(sum) / double(a.size())));
}

double ssim(std::span<const uint8_t> a, std::span<const uint8_t> b, FrameSize size) {
  if (size.width < kTaps || size.height < kTaps) return std::numeric_limits<double>::quiet_NaN();
  if (std::equal(a.begin(), a.end(), b.begin(), b.end())) return 1;
  double sum = 0;
  for (size_t c = 0; c < 3; ++c) sum += ssim_of(channel_of(a, size, c), channel_of(b, size, c));
  return sum / 3;
}

Quality quality_of(const Picture& picture, const Picture& reference) {
  const auto text = [](const Picture& p) {
    return fmt::format("{} frames of {}x{}", p.frames, p.width, p.height);
  };
  if (text(picture) != text(reference))
    throw Error(fmt::format("{} cannot be compared with {}", text(picture), text(reference)));
  Quality quality;
  quality.psnr.resize(size_t(picture.frames));
  quality.ssim.resize(size_t(picture.frames));
  const FrameSize size{picture.width, picture.height};
  side_by_side(picture.frames, [&](int t) {
    quality.psnr[size_t(t)] = psnr(picture.frame(t), reference.frame(t));
    quality.ssim[size_t(t)] = ssim(picture.frame(t), reference.frame(t), size);
  });
  for (const double value : quality.psnr) quality.identical_frames += std::isinf(value) ? 1 : 0;
  return quality;
}

std::vector<double> frame_changes(const Picture& picture) {
  std::vector<double> changes;
  for (int t = 1; t < picture.frames; ++t) {
    const auto a = picture.frame(t - 1), b = picture.frame(t);
    int64_t sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += std::abs(int(a[i]) - int(b[i]));
    changes.push_back(double(sum) / double(a.size()));
  }
  return changes;
}

double flicker_score(const std::vector<double>& changes) {
  if (changes.empty()) return std::numeric_limits<double>::quiet_NaN();
  const double mean = std::accumulate(changes.begin(), changes.end(), 0.0) / double(changes.size());
  return (kRange - mean) / kRange;
}

}  // namespace sagelab
