// SPDX-License-Identifier: Apache-2.0
// What the tests of `bench attention` share: where tensors are drawn, and a backend under its name.
#pragma once

#include <c10/core/TensorOptions.h>

#include <string>

#include "app/commands/bench/attention/attention.h"
#include "attention/registry.h"

namespace sagelab::bench {

inline at::TensorOptions on_cpu(at::ScalarType dtype = at::kFloat) {
  return at::TensorOptions().device(at::kCPU).dtype(dtype);
}

inline Candidate named(const std::string& spec) {
  return {spec, attention::make_backend(spec)};
}

}  // namespace sagelab::bench
