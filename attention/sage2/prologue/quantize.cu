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

// Twice what keeps pace, so that attention need not wait for the first heads, either. Plain rows wait for
// memory where more than a fifth or so of the processors ask for it; norm and RoPE have more to compute. (Of
// 4608 tokens in 24 heads, normed and rotated, .6 of the processors take .42 ms with attention, .3 and all of
// them .45; of 4429 in 76 they take .85, .86 and .84: with attention's blocks alone, not yet in clusters.)
int processors_for(const AttentionParams& shape, bool plain) {
  const int all = sagelab::kernel::processors();
  if (!shape.beside) return all;
  // Quantizing a tile of Q, K or V, by attention of a tile of queries to one of keys; and the least share.
  const double tile = plain ? .9 : 4, least = plain ? .18 : .6;
  const double q = double(shape.heads) * double(tiles(shape.q_len, kQRows)),
               kv_tiles = double(tiles(shape.kv_len, kv_rows(shape.settings.arch))),
               seen = shape.causal ? (kv_tiles + 1) / 2 : kv_tiles;
  const double pace = tile * (q + 2 * shape.kv_heads * kv_tiles) / (q * seen);
  return int(std::ceil(all * std::clamp(2 * pace / (1 + pace), least, 1.)));
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
