// SPDX-License-Identifier: Apache-2.0
// A sampler that takes no step. Clean latents are said to lie nine predictions on.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "pipelines/core/sampler.h"

namespace sagelab::testing {

struct NoSampler : Sampler {
  std::vector<double> times;
  const std::vector<double>& timesteps() const override { return times; }
  at::Tensor step(const at::Tensor&, int, const at::Tensor& latents, at::Generator&) override {
    return latents;
  }
  at::Tensor denoised(const at::Tensor& prediction, int, const at::Tensor& latents) const override {
    return latents + 9 * prediction;
  }
};

}  // namespace sagelab::testing
