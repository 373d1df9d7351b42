// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "attention/sage2/prologue/quantize.cuh"

namespace sagelab::attention::sage2 {
namespace {

bool plain(const Run* runs, int count) {
  for (const Run* run = runs; run < runs + count; ++run) {
    if (run->rows.norm != sagelab::kernel::NormKind::None || run->rows.rotate) return false;
  }
  return true;
}

}  // namespace

// Twice what keeps pace, so that attention need not wait for the first heads, either; more than a fifth or so
// waits for memory.
int processors_for(const AttentionParams& shape) {
  const int all = sagelab::kernel::processors();
  if (!shape.beside) return all;
  constexpr double kTile =
      .9;  // quantizing a tile of Q, K or V, by attention of a tile of queries to one of keys
  const double q = double(shape.heads) * double(tiles(shape.q_len, kQRows)),
               kv_tiles = double(tiles(shape.kv_len, kv_rows(shape.settings.arch))),
               seen = shape.causal ? (kv_tiles + 1) / 2 : kv_tiles;
  const double pace = kTile * (q + 2 * shape.kv_heads * kv_tiles) / (q * seen);
  return int(std::ceil(all * std::clamp(2 * pace / (1 + pace), .18, 1.)));
}

cudaError_t launch_prologue(const PrologueParams& params, cudaStream_t stream) {
  const Counters& counters = params.shape.counters;
  const size_t bytes = size_t(Counters::count(counters.heads)) * sizeof(unsigned);
  cudaError_t status = cudaMemsetAsync(counters.words, 0, bytes, stream);
  if (status == cudaSuccess) status = launch_statistics(params, stream);
  if (status == cudaSuccess) status = launch_quantize(params, stream);
  if (status == cudaSuccess) status = launch_delta(params, stream);
  return status;
}

cudaError_t launch_quantize(const PrologueParams& params, cudaStream_t stream) {
  if (plain(params.q, params.q_runs) && plain(params.k, params.kv_runs))
    return launch_quantize_plain(params, stream);
  return launch_quantize_as<false>(params, stream);
}

}  // namespace sagelab::attention::sage2
