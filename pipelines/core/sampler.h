// SPDX-License-Identifier: Apache-2.0
// A schedule and one step of it; knows no model.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace sagelab {

class Sampler {
 public:
  virtual ~Sampler() = default;
  // The model's time argument at each step, first step first; its size is the number of forwards.
  virtual const std::vector<double>& timesteps() const = 0;
  // prediction: the guided model output; latents: [B, ...]. Draws noise, where it draws any, from generator
  // (the one that made the latents). Returns the next latents in latents' dtype.
  virtual at::Tensor step(const at::Tensor& prediction, int i, const at::Tensor& latents,
                          at::Generator& generator) = 0;
};

}  // namespace sagelab
