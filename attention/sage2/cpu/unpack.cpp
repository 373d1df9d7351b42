// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/util/Float8_e4m3fn.h>
#include <c10/util/Half.h>

#include <array>
#include <cstring>

#include "attention/sage2/layout.h"
#include "attention/sage2/twin.h"

namespace sagelab::attention::sage2 {

namespace {

// A row of a tile, its 16-byte chunks in order.
void load_row(const uint8_t* tile, int row, uint8_t* bytes, int count) {
  for (int c = 0; c < count; c += 16) std::memcpy(bytes + c, tile + swizzled(row, c, count), 16);
}

int sign_extended(int nibble) {
  return (nibble ^ 8) - 8;
}

// Tiles of rows of integers to [rows, dim] fp32.
at::Tensor unpack_rows(const at::Tensor& packed, Qk qk, int64_t dim) {
  const int64_t count = packed.size(0) * packed.size(1) * packed.size(2), rows = packed.size(3),
                bytes = packed.size(4);
  at::Tensor all = at::empty({packed.size(0), packed.size(1), packed.size(2) * rows, dim}, at::kFloat);
  const auto* const from = packed.const_data_ptr<uint8_t>();
  float* const to = all.data_ptr<float>();
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin * rows; r < end * rows; ++r) {
      uint8_t row[128];
      load_row(from + r / rows * rows * bytes, int(r % rows), row, int(bytes));
      float* out = to + r * dim;
      if (qk == Qk::Int8) {
        for (int c = 0; c < dim; ++c) out[c] = float(int8_t(row[c]));
      } else {
        for (int c = 0; c < dim; ++c) out[c] = float(sign_extended(row[c / 2] >> c % 2 * 4 & 15));
      }
    }
  });
  return all;
}

std::array<float, 256> e4m3_values() {
  std::array<float, 256> values;
  for (int i = 0; i < 256; ++i) values[i] = c10::detail::fp8e4m3fn_to_fp32_value(uint8_t(i));
  return values;
}

// Tiles of channels to [keys, dim] fp32.
at::Tensor unpack_v(const at::Tensor& packed, const Settings& s, int64_t dim) {
  static const std::array<float, 256> values = e4m3_values();
  const int rows = kv_rows(s.arch), bytes = int(packed.size(4));
  const int64_t tile_bytes = packed.size(3) * bytes, count = packed.size(0) * packed.size(1) * packed.size(2);
  at::Tensor all = at::empty({packed.size(0), packed.size(1), packed.size(2) * rows, dim}, at::kFloat);
  const auto* const from = packed.const_data_ptr<uint8_t>();
  float* const to = all.data_ptr<float>();
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const uint8_t* tile = from + t * tile_bytes;
      for (int c = 0; c < dim; ++c) {
        uint8_t row[128];
        load_row(tile, c, row, bytes);
        float* out = to + t * rows * dim + c;
        for (int i = 0; i < rows; ++i) {
          if (s.pv == Pv::Fp16) {
            uint16_t half;
            std::memcpy(&half, row + 2 * i, 2);
            out[i * dim] = float(c10::Half(half, c10::Half::from_bits()));
          } else {
            out[fp8_key(i) * dim] = values[row[i]];
          }
        }
      }
    }
  });
  return all;
}

}  // namespace

Unpacked unpack(const Quantized& x, const Settings& settings, int64_t head_dim) {
  return {unpack_rows(x.q, settings.qk, head_dim), unpack_rows(x.k, settings.qk, head_dim),
          unpack_v(x.v, settings, head_dim)};
}

}  // namespace sagelab::attention::sage2
