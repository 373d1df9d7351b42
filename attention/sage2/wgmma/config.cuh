// SPDX-License-Identifier: Apache-2.0
// How a kernel is laid out: who takes part, and what shared memory holds.
//
// Note [Consumers]. A multiprocessor has 65,536 registers. Of head dimension 128, a consumer needs 160 a
// thread, so there are three; of 64, 112 do (but not where V has scales by tile), so there are four.
//
// Note [Clusters]. Of head dimension 128, long calls are limited by power, and reading K and V from the level
// 2 cache takes some of it. There two blocks with neighbouring queries share what one of them reads. Of 64,
// sharing would gain 1 % at most, and costs more.
#pragma once

#include "attention/sage2/kernels.h"
#include "attention/sage2/wgmma/pipe.cuh"

namespace sagelab::attention::sage2::hopper {

constexpr int kKeys = kv_rows(Arch::Sm90);
constexpr int kGroup = 64;  // queries of a consumer
constexpr int kStages = 4, kQStages = 2;
constexpr int kQueriesPerScale = kQRows / q_scales_per_tile(Arch::Sm90);

// A block's queries: where they stand, and how many tiles of keys some query of the cluster sees, at least 1.
struct Item {
  int batch, head;
  int query;  // its first; may be past the last
  int kv;     // its head of K and V, among those of all batches
  int count;  // 0: there are no more
};

// What a kernel does: all of it, but where a study asks what a part costs (attention/study/stages.h).
struct Parts {
  bool scores = true, maxima = true, conversions = true, exponentials = true, packing = true, values = true,
       second_level = true;
};

template <int kDim, VScale kVScale, Sum kSum>
struct Config {
  static constexpr Parts kHas{};
  static constexpr int kDimension = kDim;
  static constexpr bool kTileScale = kVScale == VScale::Tile, kOnes = kSum == Sum::Matrix;
  static constexpr int kBlocks = kDim == 128 ? 2 : 1;                   // of a cluster
  static constexpr int kConsumers = kDim == 64 && !kTileScale ? 4 : 3;  // warpgroups
  static constexpr int kRegisters = kConsumers == 4 ? 112 : 160;        // of a consumer's thread
  static constexpr int kQueries = kGroup * kConsumers, kThreads = 128 * (1 + kConsumers),
                       kConsumerWarps = 4 * kConsumers;
  static constexpr float kSlack = maximum_slack({.arch = Arch::Sm90, .pv = Pv::Fp8, .v = kVScale}, kDim);
  // log2 of 448, the range of e4m3, less room for the slack.
  static constexpr float kLift = 8.807354922f - kSlack;
  // With a row of ones under the channels, P V gives the row sum as well. Rows come by eight.
  static constexpr int kRows = kDim + (kOnes ? 8 : 0);

  struct alignas(1024) Memory {
    alignas(1024) char q[kQStages][kQueries * kDim];
    alignas(1024) char k[kStages][kKeys * kDim];
    alignas(1024) char v[kStages][kRows * kKeys];
    alignas(16) float q_scale[kQStages][kQueries / kQueriesPerScale];
    alignas(16) float k_scale[kStages][kKScalesPerTile];
    alignas(16) float v_scale[kTileScale ? kStages : kQStages][kDim];
    alignas(16) float v_mean[kQStages][kDim];  // zeros where none was subtracted
    Item items[kQStages];
    Barrier item_full[kQStages], q_full[kQStages], q_empty[kQStages], k_full[kStages], k_empty[kStages],
        v_full[kStages], v_empty[kStages];
    // Of a cluster: that the other block waits for a tile, and the index of the next item.
    Barrier k_ready[kStages], v_ready[kStages], index_full;
    unsigned index;
  };
};

// A place in a ring and the parity of its barriers' phase.
template <unsigned kPlaces = kStages>
struct Turn {
  unsigned stage, parity;
  __device__ explicit Turn(unsigned i) : stage(i % kPlaces), parity(i / kPlaces & 1) {}
};

// Keys that a query sees: may be none, or negative.
__device__ inline int keys_seen(const AttentionParams& p, int query) {
  const int end = query + 1 + int(p.kv_len - p.q_len), all = int(p.kv_len);
  return p.causal && end < all ? end : all;
}

}  // namespace sagelab::attention::sage2::hopper
