// SPDX-License-Identifier: Apache-2.0
// Where a model's tensors go.
#pragma once

#include <ATen/core/Tensor.h>

namespace sagelab {

struct Target {
  at::Device device = at::kCPU;  // meta: nothing is read, shapes alone are checked
  at::ScalarType dtype = at::kFloat;
  bool streamed = false;  // a model's blocks stay in host memory (pipelines/core/stream/layer_stream.h)
};

// Where tensors are put, if not each into memory of its own on the target.
class Placement {
 public:
  virtual ~Placement() = default;
  struct Place {
    at::Tensor tensor;  // what the model holds
    at::Tensor values;  // of the same shape and dtype, contiguous: where they are read to; undefined: nowhere
  };
  virtual Place place(at::IntArrayRef shape, at::ScalarType dtype) = 0;
};

}  // namespace sagelab
