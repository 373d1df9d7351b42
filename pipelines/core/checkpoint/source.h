// SPDX-License-Identifier: Apache-2.0
// Where Weights takes tensors from: a component folder, random numbers, or nothing but names and shapes.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

namespace sagelab {

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // For messages: the file that holds (or should hold) the key.
  virtual std::string where(const std::string& key) const = 0;
  virtual bool has(const std::string& key) const = 0;
  // As stored; empty where any shape is served.
  virtual std::optional<std::vector<int64_t>> shape(const std::string& key) const = 0;
  // Whether it is stored in e4m3, and what each row of it [rows] is to be multiplied by then, fp32 on the
  // CPU; undefined: by 1.
  virtual bool is_e4m3(const std::string& /*key*/) const { return false; }
  virtual at::Tensor scale(const std::string& /*key*/) const { return {}; }
  // Queues the key's values, converted to out's dtype, into out: contiguous, of the stored shape, on any
  // device but meta. Into e4m3 they go as they are stored, without their scale.
  virtual void fill(const std::string& key, const at::Tensor& out) = 0;
  // Returns when everything queued is in place, or rethrows the first failure.
  virtual void wait() {}
  // Every key that a model has to ask for, sorted.
  virtual std::vector<std::string> keys() const { return {}; }
};

}  // namespace sagelab
