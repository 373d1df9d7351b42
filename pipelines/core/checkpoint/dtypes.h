// SPDX-License-Identifier: Apache-2.0
// The table of the safetensors format's dtypes that we read and write.
#pragma once

#include <c10/core/ScalarType.h>

#include <array>
#include <cstdint>
#include <string_view>

namespace sagelab {

struct Dtype {
  std::string_view name;
  at::ScalarType dtype;
  uint64_t size;  // bytes of an element
};

inline constexpr std::array<Dtype, 12> kDtypes = {{
    {"F64", at::kDouble, 8},
    {"F32", at::kFloat, 4},
    {"F16", at::kHalf, 2},
    {"BF16", at::kBFloat16, 2},
    {"F8_E4M3", at::kFloat8_e4m3fn, 1},
    {"F8_E5M2", at::kFloat8_e5m2, 1},
    {"I64", at::kLong, 8},
    {"I32", at::kInt, 4},
    {"I16", at::kShort, 2},
    {"I8", at::kChar, 1},
    {"U8", at::kByte, 1},
    {"BOOL", at::kBool, 1},
}};

// Null where the format's name, or LibTorch's type, is not in the table.
constexpr const Dtype* find_dtype(std::string_view name) {
  for (const auto& row : kDtypes)
    if (row.name == name) return &row;
  return nullptr;
}
constexpr const Dtype* find_dtype(at::ScalarType dtype) {
  for (const auto& row : kDtypes)
    if (row.dtype == dtype) return &row;
  return nullptr;
}

}  // namespace sagelab
