// SPDX-License-Identifier: Apache-2.0
// Element types: as people write them, and as kernels take them.
#pragma once

#include <c10/core/ScalarType.h>

#include <optional>
#include <string>

#include "attention/device/scalar.h"

namespace sagelab {

// "fp32", "fp64", "fp16", "bf16"; other types by ATen's name.
inline std::string dtype_name(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return "fp32";
    case at::kDouble:
      return "fp64";
    case at::kHalf:
      return "fp16";
    case at::kBFloat16:
      return "bf16";
    default:
      return c10::toString(dtype);
  }
}

inline bool is_half(at::ScalarType dtype) {
  return dtype == at::kHalf || dtype == at::kBFloat16;
}

// What the kernels call a dtype; nothing for those that they are not made for.
inline std::optional<kernel::Scalar> kernel_scalar(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return kernel::Scalar::Float;
    case at::kHalf:
      return kernel::Scalar::Half;
    case at::kBFloat16:
      return kernel::Scalar::BFloat16;
    default:
      return std::nullopt;
  }
}

}  // namespace sagelab
