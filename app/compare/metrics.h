// SPDX-License-Identifier: Apache-2.0
// How far two videos are apart, and how steady one is, from their 8-bit frames before any encoding. Plain
// C++; frames are worked on side by side by all cores.
#pragma once

#include <span>
#include <vector>

#include "pipelines/frames.h"

namespace sagelab {

struct FrameSize {
  int width = 0, height = 0;
};

// 10 log10(255^2 / mean squared error) in dB over all pixels and channels of two frames [H, W, 3]; infinite
// where they are equal.
double psnr(std::span<const uint8_t> a, std::span<const uint8_t> b);
// Structural similarity (Wang et al., IEEE TIP 2004), the mean over the three channels: Gaussian weights of
// sigma 1.5 over 11x11, data range 255, population covariance, borders of 5 left out; as scikit-image's
// structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1,
// data_range=255). NaN where a side is shorter than 11.
double ssim(std::span<const uint8_t> a, std::span<const uint8_t> b, FrameSize size);

struct Quality {
  std::vector<double> psnr, ssim;  // of each frame
  int identical_frames = 0;        // byte by byte: their PSNR is infinite, their SSIM 1
};

// Throws sagelab::Error where the two differ in size.
Quality quality_of(const Picture& picture, const Picture& reference);

// Mean absolute difference of consecutive frames, in levels of 255, of each pair; empty for an image. VBench
// (Huang et al., CVPR 2024) scores temporal flickering by the same figure: (255 - mean) / 255.
std::vector<double> frame_changes(const Picture& picture);
double flicker_score(const std::vector<double>& changes);  // 1: nothing moves; NaN without a pair

}  // namespace sagelab
