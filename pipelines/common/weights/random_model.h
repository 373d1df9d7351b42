// SPDX-License-Identifier: Apache-2.0
// Models with random weights and inputs for them: what benches run at full size, without a checkpoint.
#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <memory>

#include "pipelines/core/weights.h"

namespace sagelab {

template <class Model, class ModelConfig>
std::shared_ptr<const Model> random_model(const ModelConfig& config, const Target& target) {
  const Weights w(random_source(0), target);
  auto model = std::make_shared<const Model>(w, config);
  w.require_all_read();
  return model;
}

// N(0, 1), the same on every device.
class RandomInputs {
 public:
  explicit RandomInputs(const Target& target) : target_(target) {}
  at::Tensor operator()(at::IntArrayRef shape) {
    return at::randn(shape, generator_, at::TensorOptions(at::kFloat)).to(target_.device, target_.dtype);
  }

 private:
  Target target_;
  at::Generator generator_ = at::detail::createCPUGenerator(0);
};

}  // namespace sagelab
