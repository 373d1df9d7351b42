// SPDX-License-Identifier: Apache-2.0
// A schedule and one step of it; knows no model.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "attention/error.h"

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
  // The clean latents that a prediction at step i stands for: previews are made of them.
  virtual at::Tensor denoised(const at::Tensor& prediction, int i, const at::Tensor& latents) const = 0;
  // What it keeps from step to step, by name. restore() puts it back, on the latents' device: the next step
  // is then as if those before it had been made. Throws sagelab::Error for what is not its own.
  virtual std::map<std::string, at::Tensor> memory() const { return {}; }
  virtual void restore(const std::map<std::string, at::Tensor>& memory);
};

inline void Sampler::restore(const std::map<std::string, at::Tensor>& memory) {
  if (!memory.empty()) throw Error("the sampler keeps no \"" + memory.begin()->first + "\"");
}

}  // namespace sagelab
