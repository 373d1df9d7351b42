// SPDX-License-Identifier: Apache-2.0
// What the CUDA kernels of sage2 need to know, as plain data: their translation units see no tensor.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "attention/device/row.h"
#include "attention/sage2/layout.h"

namespace sagelab::attention::sage2 {

constexpr int kMaxSegments = 4;

// The quantized operands (layout.h), in device memory.
struct Operands {
  void* q = nullptr;
  void* k = nullptr;
  void* v = nullptr;
  float* q_scale = nullptr;
  float* k_scale = nullptr;
  float* v_scale = nullptr;
  float* k_mean = nullptr;  // [B, Hkv, D]: subtracted from K; null where nothing is
  float* v_mean = nullptr;  // [B, Hkv, D]: subtracted from V, added to the result; null likewise
  float* q_mean = nullptr;  // [B, H, q_tiles, D]: subtracted from Q; null likewise
  float* delta = nullptr;   // [B, H, q_tiles, kv_tiles * kv_rows]: q_mean times smoothed K; null likewise
  float* q_shift =
      nullptr;  // [B, H, Sq]: the product of a query and k_mean, for the LSE; null where it is not asked for
  uint8_t* q_odd = nullptr;   // [B, H, q_tiles]: whether a tile holds a value that is not finite
  uint8_t* kv_odd = nullptr;  // [B, Hkv, kv_tiles]: likewise, of K or V
};

// Where the rows of the result go. Strides in elements, D contiguous.
struct Destination {
  void* out = nullptr;  // bf16 or fp16
  int64_t batch = 0, token = 0, head = 0;
  int64_t begin = 0, end = 0;  // query rows, over all segments
};

// How far the launches of a call are. The prologue sets all to 0 when it begins.
struct Counters {
  unsigned* words = nullptr;
  int64_t heads = 0;  // of K and V, over the batch

  static constexpr int64_t count(int64_t heads) { return 2 + 3 * heads; }
  // Items of queries (wgmma/producer.cuh) that Hopper's kernel has taken; 0 again after each launch of it.
  SAGELAB_HOST_DEVICE unsigned* next() const { return words; }
  // Pieces of work that the prologue has taken.
  SAGELAB_HOST_DEVICE unsigned* queue() const { return words + 1; }
  // Of a head of K and V: pieces done of it and of its queries; 1 once all operands are whole; 1 if a value
  // is beyond what sampled scales leave room for.
  SAGELAB_HOST_DEVICE unsigned* done(int64_t kv) const { return words + 2 + kv; }
  SAGELAB_HOST_DEVICE unsigned* ready(int64_t kv) const { return words + 2 + heads + kv; }
  SAGELAB_HOST_DEVICE unsigned* exceeds(int64_t kv) const { return words + 2 + 2 * heads + kv; }
};

struct AttentionParams {
  Operands x;
  Destination to[kMaxSegments];
  int segments = 0;
  float* lse = nullptr;  // [B, H, Sq], natural logarithm, or null
  Counters counters;
  bool beside = false;  // Hopper: attention begins while the prologue, which leaves it room, is under way
  int64_t q_len = 0, kv_len = 0;
  int batch = 0, heads = 0, kv_heads = 0;
  int head_dim = 0;     // the caller's; the tiles are padded to 64 or 128
  float scale = 0;      // multiplies q k^T
  bool causal = false;  // query i sees keys up to i + kv_len - q_len
  sagelab::kernel::Scalar scalar = sagelab::kernel::Scalar::BFloat16;  // of out
  Settings settings;
};

// A run of tokens as they come, with the norm and rotation that they get on the way. Runs of no tokens are
// left out.
struct Run {
  sagelab::kernel::Rows rows;
  sagelab::kernel::Rotation rotation;
  int64_t begin = 0;  // its first token among those of all runs
};

struct PrologueParams {
  Run q[kMaxSegments], k[kMaxSegments], v[kMaxSegments];  // by ascending begin
  int q_runs = 0, kv_runs = 0;
  Operands x;
  float* partial = nullptr;  // scratch of partial_floats() floats
  AttentionParams shape;     // lengths, heads, settings
};

// Scratch that the prologue wants for its means and maxima.
int64_t partial_floats(const AttentionParams& shape);
// Fills the operands. Every byte of every tile is written. With shape.beside, launch_wgmma of the same shape
// has to be the next launch in the stream.
cudaError_t launch_prologue(const PrologueParams& params, cudaStream_t stream);
// Attention on the operands. mma: by mma.sync (sm80, sm89); wgmma: Hopper.
cudaError_t launch_mma(const AttentionParams& params, cudaStream_t stream);
cudaError_t launch_wgmma(const AttentionParams& params, cudaStream_t stream);
// Computes anew, in fp32 from the sources, the rows that quantization cannot represent: of queries that are
// not finite, and all rows of heads with such keys or values. Costs a look at the flags where there are none.
cudaError_t launch_repair(const PrologueParams& params, cudaStream_t stream);

}  // namespace sagelab::attention::sage2
