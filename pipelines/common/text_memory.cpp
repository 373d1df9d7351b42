// SPDX-License-Identifier: Apache-2.0
#include "pipelines/common/text_memory.h"

#include <algorithm>

#include "attention/aten/sdpa.h"

namespace sagelab {

// Note [Peak of an encoding]
// In the order of t5.cpp, one prompt of L rows: the relative positions' buckets in the making (int64 and
// fp32, 62 bytes for each pair of rows); the bias per head, twice while it is laid out, then once for all
// blocks; and a block: q, k, v and output, or the hidden rows with what the activation makes of them
// (gelu_new is eight operations). T5's attention is LibTorch's own.
int64_t t5_encode_bytes(const T5Config& c, int64_t rows, const Target& target) {
  const int64_t element = int64_t(c10::elementSize(target.dtype));
  const int64_t pairs = rows * rows, bias = c.num_heads * pairs * element;
  const int64_t attention = rows * (5 * c.num_heads * c.d_kv + 4 * c.d_model) * element;
  const int64_t tile =
      target.device.is_cpu()
          ? attention::flash_tile_bytes({1, c.num_heads, c.num_heads, rows, rows, c.d_kv, target.dtype})
          : 0;
  const int64_t hidden = c.activation == Activation::GeluNew ? 10 : c.gated ? 3 : 2;
  const int64_t ff = rows * (hidden * c.d_ff + 4 * c.d_model) * element;
  return std::max({62 * pairs, 8 * pairs + 2 * bias, bias + std::max(attention + tile, ff)});
}

// In the order of text_encoder.cpp: the rows, those kept for hidden_states, and of a layer q, k and v with
// what the attention gives, or the hidden rows with what the activation makes of them (quick_gelu is three
// operations).
int64_t clip_encode_bytes(const ClipTextConfig& c, int64_t rows, const Target& target) {
  const int64_t element = int64_t(c10::elementSize(target.dtype)), head_dim = c.hidden_size / c.num_heads;
  const int64_t tile =
      target.device.is_cpu()
          ? attention::flash_tile_bytes({1, c.num_heads, c.num_heads, rows, rows, head_dim, target.dtype})
          : 0;
  const int64_t hidden = c.activation == Activation::QuickGelu ? 4 : 2;
  return std::max(7 * rows * c.hidden_size * element + tile,
                  rows * (3 * c.hidden_size + hidden * c.intermediate_size) * element);
}

// In the order of text_encoder.cpp: the rows, the tables of the rotation, and of a layer q, k and v as one
// with what turning the queries takes, 4.5 times as much as they are; or the queries turned and the same of
// the keys; or both turned, keys and values once for each query where they serve several, and what the
// attention gives; or the hidden rows as they come, what the activation makes of the gate, and the rows
// behind them, twice while they are added.
int64_t llama_encode_bytes(const LlamaConfig& c, int64_t rows, const Target& target) {
  const int64_t element = int64_t(c10::elementSize(target.dtype));
  const int64_t q = rows * c.num_heads * c.head_dim * element,
                k = rows * c.num_kv_heads * c.head_dim * element;
  const int64_t repeated = c.num_heads > c.num_kv_heads ? 2 * q : 0;
  const int64_t tile =
      target.device.is_cpu()
          ? attention::flash_tile_bytes({1, c.num_heads, c.num_heads, rows, rows, c.head_dim, target.dtype})
          : 0;
  const int64_t ff = rows * (3 * c.intermediate_size + 2 * c.hidden_size) * element;
  return rows * (c.hidden_size + 2 * c.head_dim) * element +
         std::max({11 * q / 2 + 2 * k, 2 * q + 13 * k / 2, 3 * (q + k) + repeated + tile, ff});
}

}  // namespace sagelab
